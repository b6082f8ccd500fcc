import { entryOf, RmError } from '../../engine/index.js';
import { invalidData } from '../files/textFiles.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { Model } from '../transformer/model.js';
import { encodeRequests } from './encodeRequest.js';
import { aggregate, aggregateGroups, type Measured, rowScore, textSize } from './metrics.js';
import { type Prompt, Prompter } from './prompts.js';
import type { Answer } from './requestCache.js';
import { type ScoreOptions, scoreRequests } from './scoreRequests.js';
import type { MetricName, Task } from './taskFile.js';
import { readTaskRows, type TaskRow } from './taskRows.js';

/** A task and the files of its rows. */
export interface TaskSource {
  readonly task: Task;
  /** File of the rows (default: the one in the task file). */
  readonly rows?: string | undefined;
  /** File of the few-shot examples (default: the one in the task file, else the rows themselves). */
  readonly fewshotRows?: string | undefined;
}

/** Settings of `prepareTask`. */
export interface PrepareOptions {
  /** Few-shot examples before every row (default: the task file's number). */
  fewshot?: number | undefined;
  /** Use only the first rows of each group (default: all). */
  limit?: number | undefined;
}

/** A task's rows as prompts, ready for any model. */
export interface PreparedTask {
  readonly task: Task;
  readonly rowsFile: string;
  /** Rows of that file; `prompts` may be of fewer. */
  readonly rowsInFile: number;
  readonly fewshot: number;
  readonly prompts: readonly Prompt[];
}

/** Metrics by name, each with its standard error if known: {acc, acc_stderr, ...}. */
export type Metrics = Readonly<Record<string, number>>;

/** A model's result on a task. */
export interface TaskResult {
  readonly task: string;
  /** File of the rows. */
  readonly file: string;
  readonly rows: number;
  readonly fewshot: number;
  readonly metrics: Metrics;
  /** Set for a task with `group_by`. */
  readonly groups?: readonly { readonly group: string; readonly rows: number; readonly metrics: Metrics }[];
  /** Distinct requests, and how many of them the cache answered. */
  readonly requests: number;
  readonly cached: number;
}

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
  /** The row's contribution to each metric; for perplexity the log-likelihood. */
  readonly scores: Readonly<Record<string, number>>;
}

/**
 * Reads a task's rows and turns them into prompts.
 *
 * @throws RmError DATA_INVALID naming file, line and field; INVALID_ARGUMENT if no file of rows is known.
 */
export async function prepareTask(
  { task, rows: rowsOption, fewshotRows: examplesOption }: TaskSource,
  options: PrepareOptions = {},
): Promise<PreparedTask> {
  const rowsFile = rowsOption ?? task.rows;
  if (rowsFile === undefined) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `task ${task.name} has no rows`,
      `Give them as \`tasks: ${task.name}=rows.jsonl\`.`,
    );
  }
  const rows = await readTaskRows(task, rowsFile);
  const fewshot = options.fewshot ?? task.fewshot;
  const examplesFile = examplesOption ?? task.fewshotRows;
  const examples =
    fewshot > 0 && examplesFile !== undefined ? await readTaskRows(task, examplesFile) : undefined;
  const prompter = new Prompter(task, rows, examples, fewshot);
  const used = new Map<string, number>();
  const selected = rows.filter(row => {
    const group = groupOf(task, row) ?? '';
    const count = (used.get(group) ?? 0) + 1;
    used.set(group, count);
    return count <= (options.limit ?? Number.POSITIVE_INFINITY);
  });
  return { task, rowsFile, rowsInFile: rows.length, fewshot, prompts: await prompter.prompts(selected) };
}

function groupOf(task: Task, { values, where }: TaskRow): string | undefined {
  if (task.groupBy === undefined) return undefined;
  const group = entryOf(values, task.groupBy);
  if (typeof group === 'string' || typeof group === 'number') return String(group);
  throw invalidData(
    `${where}: lacks the field "${task.groupBy}", by which task ${task.name} groups its rows`,
    'Add the field to every row, or remove group_by from the task file.',
  );
}

/**
 * Scores a model on a prepared task, in agreement with lm-eval.
 *
 * @throws RmError DATA_INVALID, NOT_FINITE.
 */
export async function evaluateTask(
  model: Model,
  tokenizer: Tokenizer,
  { task, rowsFile, fewshot, prompts }: PreparedTask,
  options: Omit<ScoreOptions, 'phase'> = {},
): Promise<{ result: TaskResult; samples: TaskSample[] }> {
  const requests = await encodeRequests(
    tokenizer,
    prompts.flatMap(({ requests, row }) => requests.map(request => ({ request, where: row.where }))),
  );
  const scored = await scoreRequests(model, requests, { ...options, phase: task.name });
  let at = 0;
  const answered = prompts.map(prompt => {
    const answers = scored.answers.slice(at, at + prompt.requests.length);
    at += prompt.requests.length;
    const scores = new Map(task.metrics.map(metric => [metric, rowScore(metric, prompt, answers)]));
    return { prompt, answers, scores, group: groupOf(task, prompt.row) };
  });
  const measured = async (rows: readonly (typeof answered)[number][]) => {
    const values = new Map<MetricName, Measured>();
    for (const metric of task.metrics) {
      values.set(
        metric,
        await aggregate(
          metric,
          rows.map(({ scores }) => scores.get(metric)!),
        ),
      );
    }
    return values;
  };
  const groups: { group: string; rows: number; measured: Map<MetricName, Measured> }[] = [];
  if (task.groupBy !== undefined) {
    for (const group of new Set(answered.map(row => row.group!))) {
      const rows = answered.filter(row => row.group === group);
      groups.push({ group, rows: rows.length, measured: await measured(rows) });
    }
  }
  const overall =
    groups.length === 0
      ? await measured(answered)
      : new Map(
          task.metrics.map(metric => [
            metric,
            aggregateGroups(groups.map(({ rows, measured: of }) => ({ rows, ...of.get(metric)! }))),
          ]),
        );
  const result: TaskResult = {
    ...{ task: task.name, file: rowsFile, rows: prompts.length, fewshot },
    metrics: named(overall),
    ...(groups.length > 0 && {
      groups: groups.map(({ group, rows, measured: of }) => ({ group, rows, metrics: named(of) })),
    }),
    ...{ requests: scored.requests, cached: scored.cached },
  };
  const samples = answered.map(
    ({ prompt, answers, scores, group }): TaskSample => ({
      task: task.name,
      row: prompt.row.where,
      ...(group !== undefined && { group }),
      gold: prompt.gold,
      answers: answers.map((answer, i) => ({
        ...prompt.requests[i]!,
        ...answer,
        ...(prompt.choices.length > 0 && textSize(prompt.choices[i]!)),
      })),
      scores: Object.fromEntries(scores),
    }),
  );
  return { result, samples };
}

const named = (measured: ReadonlyMap<MetricName, Measured>): Metrics =>
  Object.fromEntries(
    [...measured].flatMap(([metric, { value, stderr }]) => [
      [metric, value],
      ...(stderr === undefined ? [] : [[`${metric}_stderr`, stderr] as const]),
    ]),
  );
