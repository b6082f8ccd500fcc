import { meansOf } from '../statistics/statisticsStore.js';
import type { DistanceSums, SelectionContext } from './selection.js';

/** Mean distances by the layer that stays: from the statistics file, or measured over all batches and kept there. */
export async function meanDistances(
  { statistics: store }: SelectionContext,
  { by, count, batches, sum }: DistanceSums,
): Promise<readonly number[]> {
  const cached = store?.distances(by, count);
  if (cached) return cached;
  const sums = await sum(batches);
  await store?.putDistances(by, count, sums);
  return meansOf(sums);
}
