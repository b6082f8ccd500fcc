import { type DeviceFacts, formatBytes, RmError } from '../../engine/index.js';
import type { Architecture } from '../../model/index.js';
import { roomFor } from '../activations/hiddenStates.js';
import type { CalibrationSizes } from '../calibration/sizes.js';
import { solvingBytes, sumsBytes } from '../windowMap/layerSums.js';
import { projectionRows } from '../windowMap/projection.js';
import { PROJECTIONS } from '../windowMap/windowMap.js';
import {
  activationBytes,
  batchOptions,
  HEADROOM,
  heldBytes,
  largestBatch,
  type Placement,
  placements,
  scoringBytes,
  smallerBatches,
  type WeightSizes,
} from './memoryParts.js';

/** Everything that the memory of a map of windows depends on. */
export interface ProfileSizes extends WeightSizes, CalibrationSizes {
  readonly arch: Architecture;
  /** Removed layers of the longest windows. */
  readonly longest: number;
  /** Tokens that go through the map at a time. */
  readonly mapGroup: number;
  readonly device: DeviceFacts;
}

const rowsOf = ({ hidden }: Architecture): number => projectionRows(hidden, PROJECTIONS);

/** Bytes of the sums of all layers together. */
export function allSumsBytes({ arch, longest }: Pick<ProfileSizes, 'arch' | 'longest'>): number {
  const windows = Array.from({ length: arch.layers - 1 }, (_, layer) =>
    Math.min(longest, arch.layers - 1 - layer),
  );
  return windows.reduce((sum, targets) => sum + sumsBytes(arch.hidden, targets, rowsOf(arch)), 0);
}

/** Device bytes of a map with all weights on the device and `room` bytes for the sums of several layers. */
export function residentMapBytes(sizes: Omit<ProfileSizes, 'device'>, room = 0): number {
  const { arch, longest, weightBytes } = sizes;
  const { hidden, layers } = arch;
  const rows = rowsOf(arch);
  const most = Math.max(sizes.sequenceLength, sizes.mapGroup);
  const group = Math.min(largestBatch(sizes), most);
  const outputs = 4 * group * (2 * hidden * layers + rows * (layers + longest));
  const sums = Math.max(sumsBytes(hidden, longest, rows), Math.min(room, allSumsBytes(sizes)));
  const working = Math.max(activationBytes(arch, group, 4, 1) + outputs, solvingBytes(hidden, longest, rows));
  return weightBytes + 4 * rows * hidden + sums + working;
}

/** Device bytes for swapping layers of a model whose weights are on the device. */
function swapBytes(sizes: ProfileSizes): number {
  const { arch, weightBytes } = sizes;
  const batch = largestBatch(sizes);
  const judging = Math.max(activationBytes(arch, batch, 4, 1), scoringBytes(arch, batch));
  return weightBytes + 4 * batch * arch.hidden + judging;
}

/** Device bytes of a map under a placement. */
export function profileBytes(sizes: ProfileSizes, { weights, states }: Placement): number {
  if (weights === 'device') return Math.max(residentMapBytes(sizes), swapBytes(sizes));
  const { arch, tokens, longest } = sizes;
  const { hidden, layers } = arch;
  const rows = rowsOf(arch);
  const held = heldBytes(sizes, weights, layers)(2) + 4 * rows * hidden;
  const sums = sumsBytes(hidden, longest, rows);
  const solving = solvingBytes(hidden, longest, rows);
  const batch = largestBatch(sizes);
  const passing = activationBytes(arch, batch, 6, 1) + 4 * batch * (4 * rows + longest);
  const all = states.place === 'device' ? 4 * tokens * hidden : 0;
  return held + Math.max(passing + (longest + 1) * all, all + sums + Math.max(passing, solving));
}

/**
 * The first placement in which a map of windows fits, and the bytes for sums of layers that one pass covers together.
 *
 * @throws RmError OUT_OF_MEMORY where none does, with the options that would make it fit.
 */
export function placeProfile(sizes: ProfileSizes): { placement: Placement; room: number } {
  const memoryLimit = sizes.device.memory.limit;
  const all = placements('f32').filter(({ states }) => !states.keepsInner);
  const least = (of: ProfileSizes) => HEADROOM * Math.min(...all.map(each => profileBytes(of, each)));
  const placement = all.find(each => HEADROOM * profileBytes(sizes, each) <= memoryLimit);
  if (placement) {
    const one = sumsBytes(sizes.arch.hidden, sizes.longest, rowsOf(sizes.arch));
    const left = memoryLimit / HEADROOM - profileBytes(sizes, placement);
    return { placement, room: Math.min(roomFor(sizes.device, sizes.weightBytes), one + left) };
  }
  const fits = (of: ProfileSizes) => least(of) <= memoryLimit;
  const smaller = smallerBatches(sizes, sizes.arch).find(fits);
  let shorter = Math.floor(sizes.longest / 2);
  while (shorter > 0 && !fits({ ...sizes, longest: shorter })) shorter = Math.floor(shorter / 2);
  const remedies = [
    ...(smaller ? [batchOptions(sizes, smaller)] : []),
    ...(shorter === 0 ? [] : [`\`longest: ${shorter}\` (windows of no more)`]),
  ];
  throw new RmError(
    'OUT_OF_MEMORY',
    `the map needs ${formatBytes(least(sizes))} of device memory at the least, layer by layer; ${formatBytes(memoryLimit)} are allowed`,
    `${remedies.length > 0 ? `Use ${remedies.join(' or ')}. Or: r` : 'R'}aise \`memoryLimit\` to ${formatBytes(least(sizes))}, or use a device with more memory.`,
  );
}
