import { formatBytes } from '../engine/format.js';
import { RmError } from '../engine/index.js';
import type { Architecture } from '../model/architecture.js';
import {
  activationBytes,
  HEADROOM,
  heldBytes,
  type Placement,
  placements,
  type WeightSizes,
} from './memoryPlan.js';
import { solvingBytes, sumsBytes } from './windowMap/layerSums.js';
import { projectionRows } from './windowMap/projection.js';
import { GROUP_BYTES } from './windowMap/tile.js';
import { PROJECTIONS } from './windowMap.js';

/** What the memory of a map of windows depends on. */
export interface ProfileSizes extends WeightSizes {
  readonly arch: Architecture;
  /** Calibration tokens at most, and of these at a time. */
  readonly tokens: number;
  readonly batchTokens: number;
  /** Tokens of the longest sequence: no group has less. */
  readonly sequenceLength: number;
  /** Removed layers of the longest windows. */
  readonly longest: number;
  readonly memoryLimit: number;
}

/** Bytes of the device that a map takes with weights and hidden states placed so. */
export function profileBytes(sizes: ProfileSizes, { weights, states }: Placement): number {
  const { arch, tokens, longest } = sizes;
  const { hidden, layers } = arch;
  const rows = projectionRows(hidden, PROJECTIONS);
  const held = heldBytes(sizes, weights, layers)(2) + 4 * rows * hidden;
  const sums = sumsBytes(hidden, longest, rows);
  const solving = solvingBytes(hidden, longest, rows);
  if (weights === 'device') {
    const most = Math.max(sizes.sequenceLength, Math.floor(GROUP_BYTES / (8 * hidden * layers)));
    const group = Math.min(sizes.batchTokens, tokens, most);
    const outputs = 4 * group * (2 * hidden * layers + rows * (layers + longest));
    return held + sums + Math.max(activationBytes(arch, group, 4, 1) + outputs, solving);
  }
  const batch = Math.min(sizes.batchTokens, tokens);
  const passing = activationBytes(arch, batch, 6, 1) + 4 * batch * (4 * rows + longest);
  const all = states.place === 'device' ? 4 * tokens * hidden : 0;
  return held + Math.max(passing + (longest + 1) * all, all + sums + Math.max(passing, solving));
}

/**
 * The first placement in which a map of windows fits.
 *
 * @throws RmError OUT_OF_MEMORY where none does, with the options that would make it fit.
 */
export function placeProfile(sizes: ProfileSizes): Placement {
  const { memoryLimit } = sizes;
  const all = placements('f32').filter(({ states }) => !states.keepsInner);
  const least = (of: ProfileSizes) => HEADROOM * Math.min(...all.map(each => profileBytes(of, each)));
  const found = all.find(placement => HEADROOM * profileBytes(sizes, placement) <= memoryLimit);
  if (found) return found;
  const halves = (from: number, to: number) => {
    const list: number[] = [];
    for (let value = Math.floor(from / 2); value >= to; value = Math.floor(value / 2)) list.push(value);
    return list;
  };
  const { batchTokens: batch, longest } = sizes;
  const batchTokens = halves(batch, 64).find(value => least({ ...sizes, batchTokens: value }) <= memoryLimit);
  const shorter = halves(longest, 1).find(value => least({ ...sizes, longest: value }) <= memoryLimit);
  const remedies = [
    ...(batchTokens === undefined ? [] : [`--batch-tokens ${batchTokens}`]),
    ...(shorter === undefined ? [] : [`--layers ${shorter} (windows of no more)`]),
  ];
  throw new RmError(
    'OUT_OF_MEMORY',
    `the map needs ${formatBytes(least(sizes))} of device memory at the least, layer by layer; ${formatBytes(memoryLimit)} are allowed`,
    `${remedies.length > 0 ? `Use ${remedies.join(' or ')}. Or: r` : 'R'}aise --memory-limit to ${formatBytes(least(sizes))}, or use a device with more memory.`,
  );
}
