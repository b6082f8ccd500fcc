// A model larger than the memory limit is evaluated layer by layer, to the same bits. 4 s on idle cores.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeSyntheticCheckpoint } from '../../bench/syntheticCheckpoint.js';
import { Device } from '../../engine/index.js';
import { shippedPath } from '../../model/files/shippedPath.js';
import { evaluate, generationHealth, Model, openTextReader } from '../../model/index.js';
import { placeModels } from '../../replaceme/planning/evalPlacement.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

test('whole where it fits, else in turn, with the same result', async () => {
  using folder = temporaryFolder();
  await writeSyntheticCheckpoint(folder.path, { layers: 6, hidden: 256, intermediate: 1024, heads: 4 });
  const sequences = [Array.from({ length: 60 }, (_, i) => (i * 37) % 256), [5, 6, 7, 8]];
  const sizes = { sequenceLength: 64, batchTokens: 64 };
  const measure = async (memoryLimit: number, count: number) => {
    await using device = await Device.open({ memoryLimit });
    const offloads = await placeModels(device, new Array(count).fill(folder.path), sizes);
    await using model = await Model.load(device, folder.path, { offload: offloads[0] ?? false });
    await using other =
      count > 1 ? await Model.load(device, folder.path, { offload: offloads[1] ?? false }) : undefined;
    const options = { batchTokens: 64, ...(other && { against: other }) };
    return { offloads, result: await evaluate(model, sequences, options) };
  };
  const whole = await measure(200 << 20, 2);
  assert.equal(whole.offloads, [false, false]);
  const streamed = await measure(12 << 20, 1);
  assert.equal(streamed.offloads, [{ prefetch: true }]);
  assert.equal(streamed.result, { ...(await measure(200 << 20, 1)).result });
  const both = await measure(19 << 20, 2);
  assert.equal(both.offloads, [{ prefetch: true }, false]);
  assert.equal(both.result, whole.result);

  await using small = await Device.open({ memoryLimit: 12 << 20 });
  await rejectsWith(() => Model.load(small, folder.path), 'OUT_OF_MEMORY');
});

test('texts that a streamed model writes are those of the whole model', async () => {
  const demo = shippedPath('demo-model');
  await using device = await Device.open();
  await using model = await Model.load(device, demo);
  await using streamed = await Model.load(device, demo, { offload: { prefetch: true } });
  const reader = await openTextReader(demo, {});
  const options = { prompts: ['The capital of France is', 'Once'], tokens: 4 };
  assert.equal(
    await generationHealth(streamed, reader, options),
    await generationHealth(model, reader, options),
  );
});

test.run();
