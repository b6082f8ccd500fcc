import type { Device } from '../../engine/index.js';
import { Batch, type Model, totalTokens } from '../../model/index.js';

/** Calibration sequences that run through the model together. */
export interface CalibrationBatch {
  readonly sequences: readonly (readonly number[])[];
  /** Documents alternate between two halves: choices are made on one half by what was fitted on the other. */
  readonly half: 0 | 1;
  /** How much each token counts in statistics; 1 on average. */
  readonly weight: number;
  /** Real tokens of every sequence, where what is behind them is padding; only of faithfulBatches. */
  readonly lengths?: readonly number[];
}

export const openBatch = (device: Device, { sequences, lengths }: CalibrationBatch): Batch =>
  new Batch(device, sequences, { lengths });

/** Batches that are open at the same time. */
export class OpenBatches {
  readonly batches: readonly Batch[];

  constructor(device: Device, group: readonly CalibrationBatch[]) {
    this.batches = group.map(batch => openBatch(device, batch));
  }

  [Symbol.dispose](): void {
    for (const batch of this.batches) batch.dispose();
  }
}

/**
 * Batches that walk through the layers together: each on its own where the model is on the device, all where its layers
 * are streamed, so that each is uploaded once.
 */
export const walkGroups = <T>({ isOffloaded: streams }: Model, batches: readonly T[]): T[][] =>
  streams ? [[...batches]] : batches.map(batch => [batch]);

/** The batch's sequences without their padding. */
export const realSequences = ({ sequences, lengths }: CalibrationBatch): number[][] =>
  sequences.map((ids, s) => ids.slice(0, lengths?.[s]));

/** The first sequences in which something can be predicted, `tokens` tokens of them, the last one cut short. */
export function firstSequences(batches: readonly CalibrationBatch[], tokens: number): number[][] {
  let left = tokens;
  return batches.flatMap(realSequences).flatMap(ids => {
    const taken = ids.slice(0, Math.max(0, left));
    left -= taken.length;
    return taken.length > 1 ? [taken] : [];
  });
}

/** Of a batch, as they run: for walkBatches. */
export const sequencesOf = ({ sequences }: CalibrationBatch): CalibrationBatch['sequences'] => sequences;

/** Rows of all batches together: padding counts. */
export const batchedTokens = (batches: readonly Pick<CalibrationBatch, 'sequences'>[]): number =>
  totalTokens(batches.flatMap(({ sequences }) => sequences));
