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
    "5 windows of 2 layers don't fit",
  );
});

test.run();
