import { groupSequences, totalTokens } from '../../model/index.js';
import type { CalibrationBatch } from './calibrationBatch.js';
import { interleave } from './collectSequences.js';
import type { Calibration } from './readCalibration.js';

/**
 * Packs sequences into batches of at most `batchTokens` tokens (a longer sequence stands alone), each of one half and one
 * weight. Any beginning of the list holds about the same share of every half and weight. Weights are scaled so that
 * their mean over all tokens is 1.
 */
export function calibrationBatches(
  { sequences, tokens, files }: Pick<Calibration, 'sequences' | 'tokens' | 'files'>,
  batchTokens: number,
): CalibrationBatch[] {
  const weightedTokens = files.reduce((sum, { weight, tokens: count }) => sum + weight * count, 0);
  const weights = [...new Set(files.map(({ weight }) => weight))];
  const lists = weights.flatMap(weight =>
    ([0, 1] as const).map(half => {
      const ids = sequences
        .filter(({ source, half: of }) => of === half && files[source]!.weight === weight)
        .map(sequence => sequence.ids);
      return groupSequences(ids, batchTokens).map(group => ({
        sequences: group,
        half,
        weight: (weight * tokens) / weightedTokens,
      }));
    }),
  );
  return interleave(lists, batch => totalTokens(batch.sequences));
}
