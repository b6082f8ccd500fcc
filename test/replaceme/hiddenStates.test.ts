import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32 } from '../../engine/index.js';
import { Model } from '../../model/index.js';
import { HiddenStates } from '../../replaceme/activations/hiddenStates.js';
import { leastSquaresStatistics } from '../../replaceme/fits/leastSquares.js';
import { windowDistances } from '../../replaceme/index.js';
import { openPass, plainBatches, workplace } from './workplace.js';

const ids = (count: number, seed: number) =>
  Array.from({ length: count }, (_, i) => (i * 31 + seed * 17) % 256);
const batches = plainBatches(
  [1, 2, 3].flatMap(b => [ids(40, b), ids(24, b + 7)]),
  64,
);

test('statistics from kept hidden states have the bits of those computed anew', async () => {
  using place = await workplace();
  await using device = await Device.open();
  using model = await Model.load(device, place.model);
  const statistics = async (window: { layer: number; count: number }, states?: HiddenStates) => {
    using pass = await openPass(model, batches, window, states);
    using sums = await leastSquaresStatistics(pass);
    const matrices = [sums.gram.hi, sums.gram.lo, sums.cross.hi, sums.cross.lo];
    return { matrices: await Promise.all(matrices.map(downloadF32)), squares: sums.targetSquares };
  };
  for (const layer of [0, 2]) {
    const window = { layer, count: 2 };
    const expected = await statistics(window);
    const live = device.memory.liveBytes;
    using states = new HiddenStates(device, model.arch);
    // The last batch is not ranked: its layers run in the fit.
    await windowDistances(model, batches.slice(0, 2), [2], { states });
    assert.ok(device.memory.liveBytes > live, 'states are on the device');
    assert.equal(await statistics(window, states), expected);
    assert.is(device.memory.liveBytes, live, 'used up');
  }
});

test('no room: nothing is kept', async () => {
  using place = await workplace();
  await using device = await Device.open({ memoryLimit: 3e6 });
  using model = await Model.load(device, place.model);
  using states = new HiddenStates(device, model.arch);
  const many = Array.from({ length: 64 }, (_, i) => ids(200, i));
  assert.not(states.reserve(many));
  assert.is(states.take(many, 0), undefined);
});

test.run();
