import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, download, Tensor } from '../../engine/index.js';
import { Model } from '../../model/index.js';
import { HiddenStates, keepStates } from '../../replaceme/activations/hiddenStates.js';
import { repairInOrder } from '../../replaceme/fits/repairInOrder.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import { plainBatches, repairContext, workplace } from './workplace.js';

test('weights from earlier statistics are freed when the walk after them is aborted', async () => {
  using place = await workplace();
  await using device = await Device.open();
  using model = await Model.load(device, place.model);
  const { hidden } = model.arch;
  const live = device.memory.liveBytes;
  const batches = plainBatches([[1, 2, 3]], 8);
  const context = { ...repairContext(model, batches, { heal: true }), signal: AbortSignal.abort() };
  let recalled = 0;
  const recall = async () => {
    recalled++;
    return { weights: { o: Tensor.create(device, [hidden, hidden], 'f32') }, details: {} };
  };
  const outcome = await repairInOrder(context, [{ layer: 1, count: 1 }], undefined, recall).catch(
    (error: Error) => error.name,
  );
  assert.is(outcome, 'AbortError');
  assert.is(recalled, 1);
  assert.is(device.memory.liveBytes, live);
});

test('healing between two windows gives the same bits from kept hidden states', async () => {
  using place = await workplace();
  await using device = await Device.open();
  using model = await Model.load(device, place.model);
  const ids = (seed: number) => Array.from({ length: 40 }, (_, i) => (i * 31 + seed * 17) % 256);
  const batches = plainBatches([1, 2, 3, 4].map(ids), 40);
  const windows = [1, 4].map(layer => ({ layer, count: 1 }));
  const healed = async (states?: HiddenStates) => {
    const context = { ...repairContext(model, batches), ...(states && { states }) };
    const { changes } = await methodNamed('refit-heal').repair(context, windows);
    const values: [string, Uint8Array][] = [];
    for (const [layer, weights] of changes.layers!) {
      for (const [name, tensor] of Object.entries(weights)) {
        using stored = tensor as Tensor;
        values.push([`${layer} ${name}`, await download(stored)]);
      }
    }
    return values;
  };
  const expected = await healed();
  const live = device.memory.liveBytes;
  using states = new HiddenStates(device, model.arch);
  await keepStates(model, batches, states, {});
  assert.ok(states.peek(batches[0]!.sequences, 3));
  assert.equal(await healed(states), expected);
  assert.is(device.memory.liveBytes, live, 'used up');
});

test.run();
