import type { Device } from '../../engine/index.js';
/** Seconds of estimated work in one dispatch: drivers kill submits of a few seconds. */
export const SECONDS_PER_DISPATCH = 0.25;

/** How many of a kernel's `tiles`, of `flops` together, one dispatch may compute. */
export function tilesPerDispatch(tiles: number, flops: number, { assumedRates }: Device): number {
  const dispatches = Math.ceil(flops / (SECONDS_PER_DISPATCH * assumedRates.flops));
  return Math.ceil(tiles / Math.max(1, dispatches));
}
