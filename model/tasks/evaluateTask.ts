import { checkArguments, objectWith } from '../../engine/index.js';
import { aModel, aTokenizer } from '../arguments/forms.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { Model } from '../transformer/model.js';
import { aggregate, aggregateGroups, type Measured } from './metrics.js';
import type { PreparedTask } from './prepareTask.js';
import { answerRows, scoreNames, type TaskSample } from './rowAnswers.js';
import { type ScoreOptions, scoreSettings } from './scoreRequests.js';

/**
 * Metrics by name, each with its standard error if known: {acc, acc_stderr, ...}. Exact match is one for each filter of the
 * answers, named "exact_match,FILTER".
 */
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

/**
 * Scores a model on a prepared task, in agreement with lm-eval.
 *
 * @throws RmError DATA_INVALID, NOT_FINITE; INVALID_ARGUMENT for answers that the model's context has no room for.
 */
export async function evaluateTask(
  model: Model,
  tokenizer: Tokenizer,
  prepared: PreparedTask,
  options: Omit<ScoreOptions, 'phase'> = {},
): Promise<{ result: TaskResult; samples: readonly TaskSample[] }> {
  checkArguments(
    'evaluateTask',
    { model, tokenizer, prepared, options },
    {
      model: aModel,
      tokenizer: aTokenizer,
      prepared: objectWith('the result of prepareTask', 'task', 'prompts'),
      options: scoreSettings,
    },
  );
  const { task, rowsFile, fewshot } = prepared;
  const { samples, requests, cached } = await answerRows(model, tokenizer, prepared, options);
  const names = scoreNames(task);
  const measured = async (rows: readonly TaskSample[]) => {
    const values = new Map<string, Measured>();
    for (const name of names) {
      values.set(
        name,
        await aggregate(
          name,
          rows.map(({ scores }) => scores[name]!),
        ),
      );
    }
    return values;
  };
  const groups: { group: string; rows: number; measured: Map<string, Measured> }[] = [];
  if (task.groupBy !== undefined) {
    for (const group of new Set(samples.map(sample => sample.group!))) {
      const rows = samples.filter(sample => sample.group === group);
      groups.push({ group, rows: rows.length, measured: await measured(rows) });
    }
  }
  const overall =
    groups.length === 0
      ? await measured(samples)
      : new Map(
          names.map(name => [
            name,
            aggregateGroups(groups.map(({ rows, measured: of }) => ({ rows, ...of.get(name)! }))),
          ]),
        );
  const result: TaskResult = {
    ...{ task: task.name, file: rowsFile, rows: samples.length, fewshot },
    metrics: named(overall),
    ...(groups.length > 0 && {
      groups: groups.map(({ group, rows, measured: of }) => ({ group, rows, metrics: named(of) })),
    }),
    ...{ requests, cached },
  };
  return { result, samples };
}

const named = (measured: ReadonlyMap<string, Measured>): Metrics =>
  Object.fromEntries(
    [...measured].flatMap(([metric, { value, stderr }]) => [
      [metric, value],
      ...(stderr === undefined ? [] : [[`${metric}_stderr`, stderr] as const]),
    ]),
  );
