import { ensure } from '../../engine/index.js';
import { removedLayers, type Window, windowsOf } from '../run/window.js';

/**
 * Chooses several windows of one size greedily, the nearest first, without overlap (ReplaceMe, arXiv:2505.02819,
 * section 2.4).
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
  const nearest = [...distances.keys()].sort((a, b) => distances[a]! - distances[b]!);
  const step = apart ? size + 1 : size;
  const chosen: Window[] = [];
  for (const layer of nearest) {
    if (chosen.length === windowCount) break;
    if (chosen.every(other => Math.abs(other.layer - layer) >= step)) chosen.push({ layer, count: size });
  }
  ensure(
    chosen.length === windowCount,
    `${windowCount} windows of ${size} layers don't fit beside the nearest ones`,
    'Choose fewer windows or fewer layers.',
  );
  return windowsOf(removedLayers(chosen));
}
