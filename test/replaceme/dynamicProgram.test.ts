import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { seededRandom } from '../../engine/random.js';
import { windowsOf } from '../../replaceme/run/window.js';
import { proposeWindowSets, type WindowSet } from '../../replaceme/selections/dynamicProgram.js';

/** All sets, from all choices of removed layers; layer 0 stays. */
function everySet(cost: (i: number, n: number) => number, layers: number, count: number): WindowSet[] {
  const sets: WindowSet[] = [];
  for (let bits = 0; bits < 2 ** layers; bits += 2) {
    const removed = Array.from({ length: layers }, (_, l) => l).filter(l => (bits >> l) & 1);
    if (removed.length !== count) continue;
    const windows = windowsOf(removed);
    sets.push({ windows, cost: windows.reduce((sum, { layer, count: n }) => sum + cost(layer, n), 0) });
  }
  return sets.sort((a, b) => a.cost - b.cost);
}

test('the best sets are those of all sets, for every number of layers and windows', () => {
  const layers = 9;
  const random = seededRandom(7);
  const table = Array.from({ length: layers }, () => Array.from({ length: layers }, () => random()));
  const cost = (i: number, n: number) => table[i]![n]! * n;
  for (const count of [1, 2, 4, 7, 8]) {
    for (const [fewest, most] of [
      [1, 4],
      [1, 1],
      [2, 3],
    ] as const) {
      const expected = everySet(cost, layers, count)
        .filter(({ windows }) => windows.length >= fewest && windows.length <= most)
        .slice(0, 12);
      const found = proposeWindowSets(cost, { layers, count, fewest, most, best: 12 });
      assert.equal(
        found.map(({ windows }) => windows),
        expected.map(({ windows }) => windows),
      );
      for (const [k, { cost: sum }] of found.entries())
        assert.ok(Math.abs(sum - expected[k]!.cost) < 1e-12 * layers);
    }
  }
});

test('an infinite cost forbids a window; a set that cannot be is left out', () => {
  const cost = (i: number, n: number) => (i === 2 ? 0.1 : n > 2 ? Number.POSITIVE_INFINITY : 1);
  const [first] = proposeWindowSets(cost, { layers: 6, count: 3 });
  assert.equal(first!.windows, [{ layer: 2, count: 3 }]);
  const without = proposeWindowSets(i => (i === 2 ? Number.NaN : 1 + i), {
    layers: 6,
    count: 4,
    most: 1,
    best: 9,
  });
  assert.equal(
    without.map(({ windows }) => windows),
    [[{ layer: 0, count: 4 }], [{ layer: 1, count: 4 }]],
  );
  assert.equal(
    proposeWindowSets(() => 1, { layers: 6, count: 5, fewest: 2 }),
    [],
  );
});

test.run();
