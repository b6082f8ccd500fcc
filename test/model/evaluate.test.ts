import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, Scope } from '../../engine/index.js';
import { evaluate, Model, ReferenceStates } from '../../model/index.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

const sequences = [40, 1, 24, 33, 64, 2].map((length, s) =>
  Array.from({ length }, (_, i) => (i * 31 + s * 17) % 256),
);
const folder = temporaryFolder();
test.before(() => writeTinyModel(folder.path));
test.after(() => folder[Symbol.dispose]());

/** A device with the tiny model, what it was before and dispatches that a piece of work records. */
async function opened() {
  const device = await Device.open();
  const model = await Model.load(device, folder.path);
  // The model's table of rotations grows with the longest sequence and stays.
  await evaluate(model, sequences);
  const dispatchesOf = async (work: () => Promise<unknown>) => {
    const before = device.recorder.dispatches;
    await work();
    return device.recorder.dispatches - before;
  };
  const close = async () => {
    model.dispose();
    await device.close();
  };
  return { device, model, dispatchesOf, [Symbol.asyncDispose]: close };
}

test('evaluation against kept states has the bits of the one against the model', async () => {
  await using place = await opened();
  const { device, model } = place;
  using scope = new Scope(device);
  const zeros = (like: { shape: readonly number[] }) => {
    const tensor = scope.tensor(like.shape, 'f32', 'zeros');
    device.recorder.clear(tensor);
    return tensor;
  };
  const all = [0, 1, 2, 3, 4, 5];
  const candidates = {
    'the model itself': model,
    'a window in the middle removed': model.withLayers([0, 1, 2, 5]),
    'the last layers removed': model.withLayers([0, 1, 2, 3]),
    'the first layer removed': model.withLayers([1, 2, 3, 4, 5]),
    'a late layer changed': model.withLayers(all, {
      layers: new Map([[4, { down: zeros(model.weights.layers[4]!.down) }]]),
    }),
    'a map behind an early layer': model.withLayers(all, {
      layers: new Map([[1, { residualMap: zeros({ shape: [32, 32] }) }]]),
    }),
    'another embedding': model.withLayers(all, { embedding: zeros(model.weights.embedding) }),
    'another final norm': model.withLayers(all, { finalNorm: zeros(model.weights.finalNorm) }),
  };
  const live = device.memory.liveBytes;
  // 163 tokens of 32 numbers: none, two and all of the five depths between layers.
  for (const stateBytes of [0, 3 * 163 * 32 * 4 - 1, 1e9]) {
    using reference = await ReferenceStates.of(model, sequences, { batchTokens: 64, stateBytes });
    for (const [name, candidate] of Object.entries(candidates)) {
      assert.equal(
        await evaluate(candidate, sequences, { against: reference }),
        await evaluate(candidate, sequences, { against: model, batchTokens: 64 }),
        `${name}, ${stateBytes} bytes`,
      );
    }
  }
  assert.is(device.memory.liveBytes, live, 'all states are given back');
});

test('layers that a candidate shares with the reference do not run again', async () => {
  await using place = await opened();
  const { model, dispatchesOf } = place;
  const [sequence] = sequences;
  const one = [sequence!];
  const perLayer =
    (await dispatchesOf(() => evaluate(model, one))) -
    (await dispatchesOf(() => evaluate(model.withLayers([0, 1, 2, 3, 4]), one)));
  assert.ok(perLayer > 0);
  using none = await ReferenceStates.of(model, one);
  using every = await ReferenceStates.of(model, one, { stateBytes: 1e9 });
  // Three depths of layers 2, 4 and 6.
  using some = await ReferenceStates.of(model, one, { stateBytes: 2 * 40 * 32 * 4 });
  const candidate = model.withLayers([0, 1, 2, 5]);
  const dispatches = (against: ReferenceStates) => dispatchesOf(() => evaluate(candidate, one, { against }));
  const full = await dispatches(none);
  // What precedes layer 0 is the embedding, one dispatch.
  assert.is(full - (await dispatches(every)), 3 * perLayer + 1);
  assert.is(full - (await dispatches(some)), 2 * perLayer + 1);
});

test('a reference of other sequences is refused, and one of sequences without predictions', async () => {
  await using place = await opened();
  const { model } = place;
  using against = await ReferenceStates.of(model, sequences);
  const copy = [...sequences];
  assert.match(await rejectsWith(() => evaluate(model, copy, { against }), 'INVALID_ARGUMENT'), 'other');
  await rejectsWith(() => ReferenceStates.of(model, [[1], [2]]), 'DATA_INVALID');
  await rejectsWith(() => evaluate(model, [[1], [2]]), 'DATA_INVALID');
});

test('a stopped reference leaves nothing on the device', async () => {
  await using place = await opened();
  const { device, model } = place;
  const live = device.memory.liveBytes;
  const onProgress = () => {
    throw new Error('stop');
  };
  await ReferenceStates.of(model, sequences, { onProgress }).then(
    () => assert.unreachable(),
    error => assert.is(error.message, 'stop'),
  );
  assert.is(device.memory.liveBytes, live);
});

test.run();
