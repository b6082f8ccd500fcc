import { ensure, type FormsOf, numeric, optional, RmError, seededRandom, whole } from '../../engine/index.js';
import type { SampleOptions } from '../../kernels/index.js';

/** How the next token is chosen. */
export interface SamplingOptions {
  /** 0 (default): always the most likely token. */
  temperature?: number;
  /** Sample from the k most likely tokens only (0: all). */
  topK?: number;
  /** Sample from the most likely tokens that together reach this probability (1: all). */
  topP?: number;
  /**
   * Divides the positive logits of tokens that the text already has, prompt included, by this number, and multiplies
   * their negative ones by it (1: none), as transformers' `repetition_penalty`.
   */
  repeatPenalty?: number;
  /** The same seed, model and adapter give the same text (default 0). */
  seed?: number;
}

/** The forms of `SamplingOptions`; `samplingOf` checks their ranges. */
export const samplingForms: FormsOf<SamplingOptions> = {
  temperature: optional(numeric),
  topK: optional(whole()),
  topP: optional(numeric),
  repeatPenalty: optional(numeric),
  seed: optional(numeric),
};

/** The error for NaN or infinite logits. */
export const notFiniteLogits = (): RmError =>
  new RmError(
    'NOT_FINITE',
    'the model gives NaN or infinite logits',
    'The model is damaged: check its weights and how it was made.',
  );

/**
 * Checks how tokens are chosen, and fills in defaults.
 *
 * @returns undefined for the most likely token.
 * @throws RmError INVALID_ARGUMENT for a temperature below 0, a topK that is no count, a topP outside (0, 1], or a repeatPenalty
 *   that is not above 0.
 */
export function samplingOf(options: SamplingOptions): SampleOptions | undefined {
  const { temperature = 0, topK = 0, topP = 1, repeatPenalty = 1 } = options;
  ensure(temperature >= 0, `the temperature is ${temperature}`, 'Give a number of 0 or more.');
  ensure(Number.isInteger(topK) && topK >= 0, `topK is ${topK}`, 'Give a whole number of 0 or more.');
  ensure(topP > 0 && topP <= 1, `topP is ${topP}`, 'Give a number above 0 and at most 1.');
  ensure(repeatPenalty > 0, `repeatPenalty is ${repeatPenalty}`, 'Give a number above 0.');
  return temperature === 0 ? undefined : { temperature, topK, topP };
}

/**
 * Makes tokens that the text has less likely, in place. Source: CTRL (arXiv:1909.05858), as transformers.
 *
 * @param logits of the next token, [vocab].
 * @param penalty above 0.
 */
export function penalizeRepeats(logits: Float32Array, text: readonly number[], penalty: number): void {
  for (const id of new Set(text))
    logits[id] = logits[id]! > 0 ? logits[id]! / penalty : logits[id]! * penalty;
}

/** Uniform random u32 numbers, one for each token of a sequence. */
export function tokenRandom(seed = 0): () => number {
  const random = seededRandom(seed);
  return () => Math.floor(random() * 2 ** 32);
}
