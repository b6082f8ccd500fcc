import type { Tokenizer } from '../text/tokenizer.js';
import type { Model } from '../transformer/model.js';
import { encodeRequests } from './encodeRequest.js';
import { generateAnswers } from './generateAnswers.js';
import { type GenerationRules, NO_FILTER } from './generationRules.js';
import { judgeTexts } from './judging.js';
import { rowScore, textSize } from './metrics.js';
import type { PreparedTask } from './prepareTask.js';
import type { Answer } from './requestCache.js';
import { type ScoreOptions, scoreRequests } from './scoreRequests.js';
import { groupOf } from './taskRows.js';

/** A model's answers to one row. */
export interface TaskSample {
  readonly task: string;
  /** File and line. */
  readonly row: string;
  readonly group?: string;
  /** Indices of the correct choices; empty in a task without choices. */
  readonly gold: readonly number[];
  readonly answers: readonly (Answer & {
    readonly context: string;
    readonly continuation: string;
    /** Divisors of acc_norm and acc_bytes. */
    readonly characters?: number;
    readonly bytes?: number;
  })[];
  /** Set instead of answers in a task whose answers are generated. */
  readonly generated?: {
    readonly context: string;
    readonly text: string;
    readonly targets: readonly unknown[];
    /** What each filter made of the text. */
    readonly filtered: Readonly<Record<string, string | null>>;
  };
  /** The row's contribution to each metric; for perplexity the log-likelihood. */
  readonly scores: Readonly<Record<string, number>>;
}

/** Answers to all rows of a task. */
export interface RowAnswers {
  readonly samples: readonly TaskSample[];
  /** Distinct requests, and how many of them the cache answered. */
  readonly requests: number;
  readonly cached: number;
}

type AnswerOptions = Omit<ScoreOptions, 'phase'>;

/** Lets the model answer. @throws RmError as scoreRequests and generateAnswers. */
export function answerRows(
  model: Model,
  tokenizer: Tokenizer,
  prepared: PreparedTask,
  options: AnswerOptions,
): Promise<RowAnswers> {
  const { generation } = prepared.task;
  return generation
    ? generatedRows(model, tokenizer, prepared, generation, options)
    : scoredRows(model, tokenizer, prepared, options);
}

/** The names of a row's scores, in order: a metric after each filter. */
export const scoreNames = ({ metrics, generation }: PreparedTask['task']): string[] =>
  generation ? generation.filters.map(({ name }) => scoreName(name)) : [...metrics];

const scoreName = (filter: string): string =>
  filter === NO_FILTER ? 'exact_match' : `exact_match,${filter}`;

const headOf = ({ task }: PreparedTask, { row }: PreparedTask['prompts'][number]) => {
  const group = groupOf(task, row);
  return { task: task.name, row: row.where, ...(group !== undefined && { group }) };
};

async function scoredRows(
  model: Model,
  tokenizer: Tokenizer,
  prepared: PreparedTask,
  options: AnswerOptions,
): Promise<RowAnswers> {
  const { task, prompts } = prepared;
  const requests = await encodeRequests(
    tokenizer,
    prompts.flatMap(({ requests, row }) => requests.map(request => ({ request, where: row.where }))),
  );
  const scored = await scoreRequests(model, requests, { ...options, phase: task.name });
  let at = 0;
  const samples = prompts.map((prompt): TaskSample => {
    const answers = scored.answers.slice(at, at + prompt.requests.length);
    at += prompt.requests.length;
    return {
      ...headOf(prepared, prompt),
      gold: prompt.gold,
      answers: answers.map((answer, i) => ({
        ...prompt.requests[i]!,
        ...answer,
        ...(prompt.choices.length > 0 && textSize(prompt.choices[i]!)),
      })),
      scores: Object.fromEntries(task.metrics.map(metric => [metric, rowScore(metric, prompt, answers)])),
    };
  });
  return { samples, requests: scored.requests, cached: scored.cached };
}

async function generatedRows(
  model: Model,
  tokenizer: Tokenizer,
  prepared: PreparedTask,
  rules: GenerationRules,
  options: AnswerOptions,
): Promise<RowAnswers> {
  const { task, prompts } = prepared;
  const contexts = prompts.map(({ requests: [request], row }) => ({
    context: request!.context,
    where: row.where,
  }));
  const { texts, requests, cached } = await generateAnswers(model, tokenizer, contexts, rules, {
    ...options,
    phase: task.name,
  });
  const rows = prompts.map(({ targets = [] }, i) => ({ answer: texts[i]!, targets }));
  const judged = await judgeTexts(task.path, rows, rules.filters, task.exactMatch);
  const samples = prompts.map((prompt, i): TaskSample => {
    const outcomes = Object.entries(judged[i]!);
    return {
      ...{ ...headOf(prepared, prompt), gold: [], answers: [] },
      generated: {
        ...{ context: contexts[i]!.context, text: texts[i]!, targets: prompt.targets ?? [] },
        filtered: Object.fromEntries(outcomes.map(([name, [filtered]]) => [name, filtered])),
      },
      scores: Object.fromEntries(outcomes.map(([name, [, right]]) => [scoreName(name), right ? 1 : 0])),
    };
  });
  return { samples, requests, cached };
}
