import { ensure } from '../../engine/index.js';
import { removedLayers, type Window, windowsOf } from '../run/window.js';

/**
 * Layers of each of `windowCount` windows of equal size that remove `count` layers together.
 *
 * @throws RmError INVALID_ARGUMENT where the layers cannot be divided equally.
 */
export function equalWindowSize({ count, windowCount }: { count: number; windowCount: number }): number {
  const size = count / windowCount;
  ensure(
    Number.isInteger(size),
    `${count} layers cannot be divided into ${windowCount} windows of equal size`,
    'Remove a multiple of `windows` layers, or name them by `remove`.',
  );
  return size;
}

/** Layers from the one that a window keeps to the one that the next window may keep. */
const stepOf = (size: number, apart: boolean): number => (apart ? size + 1 : size);

/** @throws RmError INVALID_ARGUMENT where a model of so many layers has no room for so many windows of `size` layers. */
export function checkRoom(layers: number, size: number, windowCount: number, apart: boolean): void {
  const room = roomBeside([], layers - size, stepOf(size, apart));
  ensure(
    room >= windowCount,
    `a model of ${layers} layers has no room for ${windowCount} windows of ${size} layers${apart ? ' with a layer between them' : ''}`,
    `Choose at most ${room} windows, or fewer layers.`,
  );
}

/** How many windows fit beside the chosen ones, where `places` layers can be the one that a window keeps. */
function roomBeside(chosen: readonly number[], places: number, step: number): number {
  let room = 0;
  for (let layer = 0; layer < places; ) {
    const near = chosen.filter(other => Math.abs(other - layer) < step);
    if (near.length === 0) room++;
    layer = near.length === 0 ? layer + step : Math.max(...near) + step;
  }
  return room;
}

/**
 * Chooses several windows of one size greedily, the nearest first, without overlap (ReplaceMe, arXiv:2505.02819,
 * section 2.4). Passes over a window beside which the others would not fit.
 *
 * @param distances of the windows of `size` layers, by the layer that stays.
 * @param apart keeps a layer between windows; otherwise adjacent windows merge.
 * @throws RmError INVALID_ARGUMENT where the model has no room for that many.
 */
export function greedyWindows(
  distances: readonly number[],
  size: number,
  windowCount: number,
  apart: boolean,
): Window[] {
  checkRoom(distances.length + size, size, windowCount, apart);
  const nearest = [...distances.keys()].sort((a, b) => distances[a]! - distances[b]!);
  const step = stepOf(size, apart);
  const chosen: number[] = [];
  for (const layer of nearest) {
    if (chosen.length === windowCount) break;
    if (chosen.some(other => Math.abs(other - layer) < step)) continue;
    const more = [...chosen, layer];
    if (more.length + roomBeside(more, distances.length, step) >= windowCount) chosen.push(layer);
  }
  return windowsOf(removedLayers(chosen.map(layer => ({ layer, count: size }))));
}
