import { meansOf } from '../statistics/statisticsStore.js';
import type { DistanceSums, SelectionContext } from './selection.js';

/** By the layer that stays: as the statistics file has them, else over all batches, and kept there. */
export async function meanDistances(
  { statistics: store }: SelectionContext,
  { by, count, batches, sum }: DistanceSums,
): Promise<readonly number[]> {
  const known = store?.distances(by, count);
  if (known) return known;
  const sums = await sum(batches);
  await store?.putDistances(by, count, sums);
  return meansOf(sums);
}
