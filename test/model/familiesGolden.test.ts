import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { generate, logits, Model } from '../../model/index.js';
import { familyData, familyNames } from '../familyData.js';
import { maxAbsError } from '../gpu.js';

// One device for all families: they share most kernels, which each new device compiles again.
const device = await Device.open();
test.after(() => device.close());

for (const family of familyNames) {
  test(`${family}: logits, generated tokens and logits without a layer equal transformers'`, async () => {
    const golden = await familyData(family);
    await using model = await Model.load(device, golden.folder);
    const error = maxAbsError((await logits(model, golden.ids)).logits, golden.logits);
    assert.ok(error <= 1e-4, `logits differ by ${error}`);
    assert.equal(await generate(model, golden.ids.slice(0, 10), { maxTokens: 8 }), golden.greedy);
    const kept = await logits(model.withLayers(golden.kept), golden.ids);
    const keptError = maxAbsError(kept.logits, golden.keptLogits);
    assert.ok(keptError <= 1e-4, `logits of the layers ${golden.kept} differ by ${keptError}`);
  });
}

test.run();
