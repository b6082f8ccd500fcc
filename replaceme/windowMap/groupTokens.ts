import type { DeviceFacts } from '../../engine/index.js';
import type { Architecture } from '../../model/index.js';

/** Most bytes of the outputs and MLP outputs of all layers on a software adapter, and the least on a GPU. */
const LEAST_BYTES = 2 ** 29;
/** The same as a share of a GPU's memory, rounded down to a power of two: a little more free memory changes no sums. */
const SHARE = 1 / 8;

/** How many tokens go through the window map at a time; a single sequence may have more. */
export function groupTokens(
  { info, memory: { limit } }: DeviceFacts,
  { hidden, layers }: Architecture,
): number {
  const larger =
    info.kind === 'software' || !Number.isFinite(limit) ? 0 : 2 ** Math.floor(Math.log2(SHARE * limit));
  return Math.floor(Math.max(LEAST_BYTES, larger) / (8 * hidden * layers));
}
