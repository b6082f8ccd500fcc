import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { logits, Model } from '../../model/index.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

const ids = [5, 9, 200, 31, 77, 3];

test('streamed layers give the same bits, each is uploaded once per walk, and two are on the device at most', async () => {
  using folder = temporaryFolder();
  await writeTinyModel(folder.path, { maxShardBytes: 20_000 });
  await using device = await Device.open();
  using whole = await Model.load(device, folder.path);
  const expected = await logits(whole, ids, { taps: true });
  for (const prefetch of [true, false]) {
    const live = device.memory.liveBytes;
    {
      await using streamed = await Model.load(device, folder.path, { offload: { prefetch } });
      assert.equal(await logits(streamed, ids, { taps: true }), expected);
      assert.is(streamed.layerUploads, 6);
      const withOne = device.memory.liveBytes;

      const fewer = streamed.withLayers([0, 1, 4, 5]);
      assert.equal(
        (await logits(fewer, ids)).logits,
        (await logits(whole.withLayers([0, 1, 4, 5]), ids)).logits,
      );
      assert.is(streamed.layerUploads, 10);
      await streamed.loadLayer(2, 3);
      assert.throws(() => streamed.weights.layers[4], /layer 4 is not on the device/);
      assert.throws(() => streamed.weights.layers[3], /layer 3 is not on the device/);
      await streamed.loadLayer(3);
      assert.is(streamed.layerUploads, 12);
      await streamed.loadLayer(3);
      assert.is(streamed.layerUploads, 12);
      assert.is(device.memory.liveBytes, withOne, 'only the layer that is held is left');
    }
    assert.is(device.memory.liveBytes, live, 'nothing stays');
  }
});

test('a layer with NaN is refused when it is held, with the name of the tensor', async () => {
  const name = 'model.layers.3.mlp.up_proj.weight';
  using folder = temporaryFolder();
  await writeTinyModel(folder.path, {
    values: (tensor, values) => tensor === name && values.fill(Number.NaN, 7, 8),
  });
  await using device = await Device.open();
  await using model = await Model.load(device, folder.path, { offload: { prefetch: true } });
  await model.loadLayer(2, 3);
  assert.match(await rejectsWith(() => model.loadLayer(3), 'NOT_FINITE'), name);
});

test.run();
