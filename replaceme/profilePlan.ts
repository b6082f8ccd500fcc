import { formatBytes } from '../engine/format.js';
import { RmError } from '../engine/index.js';
import type { Architecture } from '../model/architecture.js';
import { roomFor } from './hiddenStates.js';
import {
  activationBytes,
  HEADROOM,
  heldBytes,
  type Placement,
  placements,
  type WeightSizes,
} from './memoryParts.js';
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

const rowsOf = ({ hidden }: Architecture): number => projectionRows(hidden, PROJECTIONS);

/** Bytes of the sums of all layers together. */
export function allSumsBytes({ arch, longest }: Pick<ProfileSizes, 'arch' | 'longest'>): number {
  const windows = Array.from({ length: arch.layers - 1 }, (_, layer) =>
    Math.min(longest, arch.layers - 1 - layer),
  );
  return windows.reduce((sum, targets) => sum + sumsBytes(arch.hidden, targets, rowsOf(arch)), 0);
}

/** Bytes of the device that a map takes with all weights there, and with so much room for the sums of several layers. */
export function residentMapBytes(sizes: Omit<ProfileSizes, 'memoryLimit'>, room = 0): number {
  const { arch, tokens, longest, weightBytes } = sizes;
  const { hidden, layers } = arch;
  const rows = rowsOf(arch);
  const most = Math.max(sizes.sequenceLength, Math.floor(GROUP_BYTES / (8 * hidden * layers)));
  const group = Math.min(sizes.batchTokens, tokens, most);
  const outputs = 4 * group * (2 * hidden * layers + rows * (layers + longest));
  const sums = Math.max(sumsBytes(hidden, longest, rows), Math.min(room, allSumsBytes(sizes)));
  const working = Math.max(activationBytes(arch, group, 4, 1) + outputs, solvingBytes(hidden, longest, rows));
  return weightBytes + 4 * rows * hidden + sums + working;
}

/** Bytes of the device that a map takes with weights and hidden states placed so. */
export function profileBytes(sizes: ProfileSizes, { weights, states }: Placement): number {
  if (weights === 'device') return residentMapBytes(sizes);
  const { arch, tokens, longest } = sizes;
  const { hidden, layers } = arch;
  const rows = rowsOf(arch);
  const held = heldBytes(sizes, weights, layers)(2) + 4 * rows * hidden;
  const sums = sumsBytes(hidden, longest, rows);
  const solving = solvingBytes(hidden, longest, rows);
  const batch = Math.min(sizes.batchTokens, tokens);
  const passing = activationBytes(arch, batch, 6, 1) + 4 * batch * (4 * rows + longest);
  const all = states.place === 'device' ? 4 * tokens * hidden : 0;
  return held + Math.max(passing + (longest + 1) * all, all + sums + Math.max(passing, solving));
}

/**
 * The first placement in which a map of windows fits, and bytes for the sums of layers that are walked together.
 *
 * @throws RmError OUT_OF_MEMORY where none does, with the options that would make it fit.
 */
export function placeProfile(sizes: ProfileSizes): { placement: Placement; room: number } {
  const { memoryLimit } = sizes;
  const all = placements('f32').filter(({ states }) => !states.keepsInner);
  const least = (of: ProfileSizes) => HEADROOM * Math.min(...all.map(each => profileBytes(of, each)));
  const placement = all.find(each => HEADROOM * profileBytes(sizes, each) <= memoryLimit);
  if (placement) {
    const one = sumsBytes(sizes.arch.hidden, sizes.longest, rowsOf(sizes.arch));
    const left = memoryLimit / HEADROOM - profileBytes(sizes, placement);
    return { placement, room: Math.min(roomFor(memoryLimit, sizes.weightBytes), one + left) };
  }
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
