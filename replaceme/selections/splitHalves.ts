import { batchedTokens, type CalibrationBatch, realSequences } from '../calibration/calibrationBatch.js';
import { rankingBatches } from './cosine.js';
import type { MeasureSettings } from './selection.js';

interface Split {
  readonly fit: readonly CalibrationBatch[];
  /** Token sequences, without padding. */
  readonly heldOut: readonly (readonly number[])[];
}

/**
 * Divides the batches: some of both halves to fit on, and other sequences of half 1 to judge by. Undefined where there are
 * too few sequences for both.
 */
export function splitHalves(
  batches: readonly CalibrationBatch[],
  { fitTokens, heldOutTokens }: Pick<MeasureSettings, 'fitTokens' | 'heldOutTokens'>,
): Split | undefined {
  const half = (which: 0 | 1) => batches.filter(batch => batch.half === which);
  const first = rankingBatches(half(0), fitTokens / 2);
  let second = half(1);
  // A single batch is divided by sequences.
  if (second.length === 1) second = singleSequences(second[0]!);
  if (first.length === 0 || second.length < 2) return undefined;
  const most = Math.floor(batchedTokens(second) / 2);
  const judged = rankingBatches(second.slice(1), Math.min(heldOutTokens, most));
  const fitted = rankingBatches(
    second.filter(batch => !judged.includes(batch)),
    fitTokens / 2,
  );
  const heldOut = judged.flatMap(realSequences).filter(({ length }) => length > 1);
  return heldOut.length > 0 ? { fit: [...first, ...fitted], heldOut } : undefined;
}

const singleSequences = (batch: CalibrationBatch): CalibrationBatch[] =>
  batch.sequences.map((ids, s) => ({
    ...batch,
    sequences: [ids],
    ...(batch.lengths && { lengths: [batch.lengths[s]!] }),
  }));

/** The first batches of each half, to `share` of its tokens; at least one. */
export const firstOfHalves = (batches: readonly CalibrationBatch[], share: number): CalibrationBatch[] =>
  ([0, 1] as const).flatMap(which => {
    const half = batches.filter(batch => batch.half === which);
    return rankingBatches(half, share * batchedTokens(half));
  });
