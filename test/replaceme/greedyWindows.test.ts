import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { greedyWindows } from '../../replaceme/selections/greedyWindows.js';
import { rejectsWith } from '../gpu.js';

//                 layer   0    1    2    3    4    5    6
const distances = [0.9, 0.1, 0.2, 0.5, 0.4, 0.6, 0.3];

test('the nearest window, then the nearest beside it', () => {
  assert.equal(greedyWindows(distances, 2, 1, false), [{ layer: 1, count: 2 }]);
  assert.equal(greedyWindows(distances, 2, 2, false), [
    { layer: 1, count: 2 },
    { layer: 6, count: 2 },
  ]);
});

test('windows that touch become one, or are kept apart', () => {
  // 1 and 6, then 4, whose layers 5 and 6 end where those of window 6 begin.
  assert.equal(greedyWindows(distances, 2, 3, false), [
    { layer: 1, count: 2 },
    { layer: 4, count: 4 },
  ]);
  assert.equal(greedyWindows([0.1, 0.5, 0.2, 0.3, 0.4], 2, 2, true), [
    { layer: 0, count: 2 },
    { layer: 3, count: 2 },
  ]);
});

test('too many windows are refused', async () => {
  assert.match(
    await rejectsWith(() => greedyWindows(distances, 2, 5, false), 'INVALID_ARGUMENT'),
    /a model of 9 layers has no room for 5 windows of 2 layers/,
  );
});

test('every set that fits is found, as trying all sets does', () => {
  const sets = (places: number, count: number, step: number, first = 0): number[][] =>
    count === 0
      ? [[]]
      : Array.from({ length: Math.max(0, places - first) }, (_, i) => first + i).flatMap(layer =>
          sets(places, count - 1, step, layer + step).map(rest => [layer, ...rest]),
        );
  for (let trial = 0; trial < 200; trial++) {
    const random = (n: number) => (trial * 7919 + n * 104729 + ((trial * n * 31) % 977)) % 1009;
    const [layers, size, apart] = [3 + (random(1) % 8), 1 + (random(2) % 3), trial % 2 === 0];
    const places = layers - size;
    const count = 1 + (random(3) % 4);
    if (places < 1) continue;
    const distances = Array.from({ length: places }, (_, i) => random(10 + i) + i / 100);
    const all = sets(places, count, apart ? size + 1 : size);
    const choose = () => greedyWindows(distances, size, count, apart);
    if (all.length === 0) {
      assert.throws(choose, /no room/);
      continue;
    }
    // The nearest window of all sets, then the nearest of those sets that have it, and so on: lexicographic order.
    const order = (set: number[]) => set.map(layer => distances[layer]!).sort((a, b) => a - b);
    const [best] = all.sort((a, b) => {
      const [x, y] = [order(a), order(b)];
      const at = x.findIndex((value, i) => value !== y[i]);
      return at < 0 ? 0 : x[at]! - y[at]!;
    });
    const removed = best!
      .flatMap(layer => Array.from({ length: size }, (_, i) => layer + 1 + i))
      .sort((a, b) => a - b);
    const chosen = choose().flatMap(({ layer, count: n }) =>
      Array.from({ length: n }, (_, i) => layer + 1 + i),
    );
    assert.equal(chosen, removed);
  }
});

test.run();
