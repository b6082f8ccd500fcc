import { setImmediate as nextTurn } from 'node:timers/promises';
import type { MetricName } from './metricList.js';
import type { Prompt } from './prompts.js';
import { pythonRandom } from './pythonRandom.js';
import { codePoints } from './pythonText.js';
import type { Answer } from './requestCache.js';

/** A metric over some rows. */
export interface Measured {
  readonly value: number;
  /** Undefined for a single row. */
  readonly stderr: number | undefined;
}

const utf8 = new TextEncoder();

/** The divisors of acc_norm and acc_bytes. */
export const textSize = (text: string): { characters: number; bytes: number } => ({
  characters: codePoints(text),
  bytes: utf8.encode(text).length,
});

/** Index of the largest value; the first if several are equal. */
const argmax = (values: readonly number[]): number =>
  values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);

/** One row's contribution to a metric of log-likelihoods, as in lm-eval's process_results. */
export function rowScore(metric: MetricName, prompt: Prompt, answers: readonly Answer[]): number {
  const logLikelihoods = answers.map(answer => answer.logLikelihood);
  if (metric === 'perplexity') return logLikelihoods[0]!;
  if (prompt.choices.length === 0) return answers[0]!.isGreedy ? 1 : 0;
  const size = (text: string) =>
    metric === 'acc' ? 1 : textSize(text)[metric === 'acc_norm' ? 'characters' : 'bytes'];
  const chosen = argmax(logLikelihoods.map((value, i) => value / size(prompt.choices[i]!)));
  return prompt.gold.includes(chosen) ? 1 : 0;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]): number => sum(values) / values.length;

function standardDeviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(sum(values.map(value => (value - middle) ** 2)) / (values.length - 1));
}

/** Aggregates a metric over rows, with its standard error, as lm-eval does; perplexity uses 100,000 bootstrap resamples. */
export async function aggregate(metric: string, scores: readonly number[]): Promise<Measured> {
  const perplexity = (average: number) => Math.exp(-average);
  const one = scores.length < 2;
  if (metric === 'perplexity') {
    return {
      value: perplexity(mean(scores)),
      stderr: one ? undefined : await bootstrapError(scores, perplexity),
    };
  }
  const stderr = one ? undefined : standardDeviation(scores) / Math.sqrt(scores.length);
  return { value: mean(scores), stderr };
}

const ROUNDS = 100;
const RESAMPLES = 1000;

/** The standard deviation of a statistic of the mean over resampled rows, with lm-eval's random numbers. */
async function bootstrapError(
  scores: readonly number[],
  statistic: (average: number) => number,
): Promise<number> {
  const values = Float64Array.from(scores);
  const { length } = values;
  const statistics: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    // With thousands of rows a round takes a while; let interrupts through.
    await nextTurn();
    const random = pythonRandom(round);
    for (let sample = 0; sample < RESAMPLES; sample++) {
      let total = 0;
      for (let i = 0; i < length; i++) total += values[Math.floor(random() * length)]!;
      statistics.push(statistic(total / length));
    }
  }
  return standardDeviation(statistics);
}

/** Combines a metric over groups, weighted by size, with the pooled standard error, as lm-eval does for its groups. */
export function aggregateGroups(groups: readonly (Measured & { rows: number })[]): Measured {
  const rows = sum(groups.map(group => group.rows));
  const value = sum(groups.map(group => group.value * group.rows)) / rows;
  const variances = groups.map(({ stderr, rows: size }) =>
    stderr === undefined ? Number.NaN : (size - 1) * size * stderr ** 2,
  );
  const stderr = Math.sqrt(sum(variances) / (rows - groups.length) / rows);
  return { value, stderr: Number.isFinite(stderr) ? stderr : undefined };
}
