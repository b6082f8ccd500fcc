import { ensure } from '../../engine/index.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';

/** One of the equal parts that calibration batches are divided into. */
export interface Shard {
  /** From 1 to `of`. */
  readonly index: number;
  readonly of: number;
}

/** Where a recipe names the part that was summed over. */
export const SHARD = 'shard';

/** As recipes and command lines write it: "2/4". */
export const shardName = ({ index, of }: Shard): string => `${index}/${of}`;

/** What `shardName` was given; undefined where the text is something else. */
export function parseShard(text: unknown): Shard | undefined {
  const match = typeof text === 'string' ? /^(\d{1,6})\/(\d{1,6})$/.exec(text) : null;
  const [index, of] = [Number(match?.[1]), Number(match?.[2])];
  return match && index >= 1 && index <= of ? { index, of } : undefined;
}

/** All calibration batches together. */
export const WHOLE: Shard = { index: 1, of: 1 };

/**
 * Every `of`-th batch. Batches stay as they are in a single run, with their halves, weights and sequences: sums over
 * all shards are the single run's.
 *
 * @throws RmError INVALID_ARGUMENT where there are fewer batches than shards.
 */
export function shardOf(batches: readonly CalibrationBatch[], { index, of }: Shard): CalibrationBatch[] {
  ensure(
    batches.length >= of,
    `${batches.length} calibration batches cannot be divided into ${of} shards`,
    'Choose fewer shards, more `tokens` or smaller `batchTokens`.',
  );
  return batches.filter((_, at) => at % of === index - 1);
}
