import type { Device } from '../../engine/index.js';
import { Batch, totalTokens } from '../../model/index.js';

/** Calibration sequences that run through the model together. */
export interface CalibrationBatch {
  readonly sequences: readonly (readonly number[])[];
  /** Documents alternate between two halves: fits use one half, and the other judges them. */
  readonly half: 0 | 1;
  /** How much each token counts in statistics; 1 on average. */
  readonly weight: number;
  /** Real tokens of every sequence, where the rest is padding; only faithfulBatches pads. */
  readonly lengths?: readonly number[];
}

export const openBatch = (device: Device, { sequences, lengths }: CalibrationBatch): Batch =>
  new Batch(device, sequences, { lengths });

/** The batch's sequences without their padding. */
export const realSequences = ({ sequences, lengths }: CalibrationBatch): number[][] =>
  sequences.map((ids, s) => ids.slice(0, lengths?.[s]));

/** The first `tokens` tokens in sequences of two or more, the last one cut short; shorter ones predict nothing. */
export function firstSequences(batches: readonly CalibrationBatch[], tokens: number): number[][] {
  let left = tokens;
  return batches.flatMap(realSequences).flatMap(ids => {
    const taken = ids.slice(0, Math.max(0, left));
    left -= taken.length;
    return taken.length > 1 ? [taken] : [];
  });
}

/** Rows of all batches together, padding included. */
export const batchedTokens = (batches: readonly Pick<CalibrationBatch, 'sequences'>[]): number =>
  totalTokens(batches.flatMap(({ sequences }) => sequences));
