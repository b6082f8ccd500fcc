import { ensure, seededRandom } from '../../engine/index.js';
import type { CalibrationSequence } from './collectSequences.js';

/** @throws RmError INVALID_ARGUMENT unless `share` lies between 0 and 1. */
const checkMask = (share: number): void =>
  ensure(share > 0 && share < 1, `the share of masked tokens is ${share}`, 'Give a number between 0 and 1.');

/**
 * Token masking as augmentation (ReplaceMe, arXiv:2505.02819v4, Table 12). The paper gives neither a share nor code, so
 * this is our reading: every sequence is followed by a copy in which a random share of the positions holds other tokens,
 * drawn from all tokens of the set, so that common tokens come up as often as they occur (a draw may hit the original
 * token). Position 0, the attention sink of many models, stays. The targets are the model's own outputs for the copy.
 *
 * @param share of the positions after the first, above 0 and below 1; rounded to a whole number of positions.
 * @returns twice as many sequences; a copy keeps the source and half of its original, and draws from that half only.
 * @throws RmError INVALID_ARGUMENT for another share.
 */
export function withMaskedCopies(
  sequences: readonly CalibrationSequence[],
  share: number,
  seed: number,
): CalibrationSequence[] {
  checkMask(share);
  const random = seededRandom(seed);
  const below = (count: number) => Math.floor(random() * count);
  // A half with tokens of the other half would no longer be unseen.
  const tokens = [0, 1].map(half =>
    sequences.filter(sequence => sequence.half === half).flatMap(({ ids }) => ids),
  );
  const masked = ({ ids, source, half }: CalibrationSequence): CalibrationSequence => {
    const positions = ids.map((_, position) => position);
    const copy = [...ids];
    const count = Math.round(share * (ids.length - 1));
    // Fisher and Yates' shuffle of the first `count` positions, from 1.
    for (let i = 1; i <= count; i++) {
      const chosen = i + below(ids.length - i);
      const position = positions[chosen]!;
      positions[chosen] = positions[i]!;
      copy[position] = tokens[half]![below(tokens[half]!.length)]!;
    }
    return { ids: copy, source, half };
  };
  return sequences.flatMap(sequence => [sequence, masked(sequence)]);
}
