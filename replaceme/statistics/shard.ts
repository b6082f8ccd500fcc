import { ensure } from '../../engine/index.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';

/** One of the equal parts into which calibration batches are divided. */
export interface Shard {
  /** From 1 to `of`. */
  readonly index: number;
  readonly of: number;
}

/** The recipe's entry for the shard. */
export const SHARD = 'shard';

/** A shard in recipes and on command lines: "2/4". */
export const shardName = ({ index, of }: Shard): string => `${index}/${of}`;

/** The inverse of `shardName`; undefined for other text. */
export function parseShard(text: unknown): Shard | undefined {
  const match = typeof text === 'string' ? /^(\d{1,6})\/(\d{1,6})$/.exec(text) : null;
  const [index, of] = [Number(match?.[1]), Number(match?.[2])];
  return match && index >= 1 && index <= of ? { index, of } : undefined;
}

/** All calibration batches together. */
export const WHOLE: Shard = { index: 1, of: 1 };

/**
 * Every `of`-th batch. Batches keep their halves, weights and sequences, so that the shards' sums add up to those of a
 * single run.
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
