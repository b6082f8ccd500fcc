import type { Device } from '../../engine/index.js';
/** Limit on the estimated seconds of one dispatch: drivers kill submits of a few seconds. */
export const SECONDS_PER_DISPATCH = 0.25;

/** How many tiles one dispatch may compute, if all `tiles` take `flops` together. */
export function tilesPerDispatch(tiles: number, flops: number, { assumedRates }: Device): number {
  const dispatches = Math.ceil(flops / (SECONDS_PER_DISPATCH * assumedRates.flops));
  return Math.ceil(tiles / Math.max(1, dispatches));
}
