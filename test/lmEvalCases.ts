import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { shippedPath } from '../model/files/shippedPath.js';
import { evaluateTask, type PreparedTask, prepareTask, readTaskFile } from '../model/tasks/index.js';
import type { Tokenizer } from '../model/text/tokenizer.js';
import type { Model } from '../model/transformer/model.js';
import { dataPath } from './support.js';

/** What test/python/lm_eval_scores.py writes of one case. */
export interface LmEvalCase {
  readonly task: string;
  readonly fewshot?: number;
  /** Name of the file of examples, where they are not the rows themselves. */
  readonly examples?: string;
  readonly metrics: Readonly<Record<string, number>>;
  /** In nats, of every choice of every row. */
  readonly logLikelihoods: readonly (readonly number[])[];
  /** Whether every token of a choice is the model's first choice: 1 or 0. */
  readonly greedy: readonly (readonly number[])[];
}

export interface LmEvalScores {
  readonly versions: Readonly<Record<string, string>>;
  /** Rows of each task, or of each of its subjects. */
  readonly limit: number | null;
  readonly cases: readonly LmEvalCase[];
}

/** How far a log-likelihood may be from lm-eval's, in nats. */
const BOUND = 2e-3;

/** The compiled code lies elsewhere than the rows. */
export const rowsFolder = dataPath('tasks');

export const readScores = (path: string): LmEvalScores =>
  JSON.parse(readFileSync(path, 'utf8')) as LmEvalScores;

/** The built-in task with the rows of this repository, as prompts. */
export async function prepareCase(
  { task: name, fewshot, examples }: LmEvalCase,
  limit: number | null = null,
): Promise<PreparedTask> {
  const task = await readTaskFile(shippedPath('tasks', `${name}.yaml`));
  const path = (file: string) => join(rowsFolder, `${file}.jsonl`);
  const source = { task, rows: path(name), ...(examples !== undefined && { fewshotRows: path(examples) }) };
  return prepareTask(source, { fewshot, ...(limit !== null && { limit }) });
}

/**
 * Asserts that a model's answers are lm-eval's: every log-likelihood within 2e-3, what is greedy, accuracies and their
 * standard errors the same, perplexity as far as the log-likelihoods let it.
 *
 * @returns the largest difference of a log-likelihood.
 */
export async function checkCase(
  model: Model,
  tokenizer: Tokenizer,
  expected: LmEvalCase,
  limit: number | null = null,
): Promise<number> {
  const { result, samples } = await evaluateTask(model, tokenizer, await prepareCase(expected, limit));
  const name = `${expected.task}, ${expected.fewshot ?? 0} examples`;
  assert.is(samples.length, expected.logLikelihoods.length, `${name}: rows`);
  let worst = 0;
  for (const [i, { answers, row }] of samples.entries()) {
    const theirs = expected.logLikelihoods[i]!;
    assert.is(answers.length, theirs.length, `${row}: choices`);
    for (const [j, { logLikelihood, isGreedy }] of answers.entries()) {
      const difference = Math.abs(logLikelihood - theirs[j]!);
      assert.ok(
        difference <= BOUND,
        `${name}, ${row}, choice ${j}: log-likelihood ${logLikelihood}, lm-eval's is ${theirs[j]}`,
      );
      worst = Math.max(worst, difference);
      assert.is(Number(isGreedy), expected.greedy[i]![j], `${name}, ${row}, choice ${j}: greedy`);
    }
  }
  for (const [metric, theirs] of Object.entries(expected.metrics)) {
    const ours = result.metrics[metric];
    // Perplexity and its bootstrapped error follow the log-likelihoods, as far as these are the same.
    if (metric.startsWith('perplexity')) {
      const bound = metric === 'perplexity' ? BOUND : 2 * BOUND;
      assert.ok(
        Math.abs(Math.log(ours! / theirs)) <= bound,
        `${name}: ${metric} ${ours}, lm-eval's is ${theirs}`,
      );
      continue;
    }
    // Both are a few divisions in f64, which may differ in the last bit.
    assert.ok(Math.abs(ours! - theirs) < 1e-12, `${name}: ${metric} ${ours}, lm-eval's is ${theirs}`);
  }
  return worst;
}
