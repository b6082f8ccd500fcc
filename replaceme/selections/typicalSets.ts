import type { Window } from '../run/window.js';
import type { WindowMap } from '../windowMap/windowMap.js';
import { shortList } from './shortList.js';

/**
 * For plans, before any token is run: candidates as the short list has them where layers in the middle change the hidden
 * states least, and several layers more than the sum of each.
 */
export function typicalSets(layers: number, count: number, length: number, most: number): Window[][] {
  const change = (layer: number) => 1 + 4 * ((2 * layer) / (layers - 1) - 1) ** 2;
  const windows = Array.from({ length: layers - 1 }, (_, layer) =>
    Array.from({ length: Math.min(count, layers - 1 - layer) }, (_, n) => {
      const removed = Array.from({ length: n + 1 }, (_, i) => change(layer + 1 + i));
      const cosine = removed.reduce((a, b) => a + b, 0) * Math.sqrt(n + 1);
      return { layer, count: n + 1, cosine, residual: cosine, unexplained: 1 };
    }),
  ).flat();
  const map: WindowMap = { layers, tokens: 0, windows };
  return shortList(map, count, length, most);
}
