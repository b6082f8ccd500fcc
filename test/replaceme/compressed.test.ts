import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import {
  convert,
  logits,
  Model,
  modelWarnings,
  openCheckpoint,
  readArchitecture,
} from '../../model/index.js';
import { weightSizes } from '../../replaceme/planning/memoryParts.js';
import { maxAbsError } from '../gpu.js';
import { dataPath, temporaryFolder } from '../support.js';
import { prunedFamily } from './prunedFamily.js';

// Models with compressed weights, pruned, streamed and converted: they are written whole. Takes about 4 s.

const folder = temporaryFolder();
let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(async () => {
  await device.close();
  folder[Symbol.dispose]();
});

const ids = [3, 9, 4, 12, 7];

const logitsOf = async (path: string, offload: false | { prefetch: boolean } = false) => {
  await using model = await Model.load(device, path, { offload });
  return (await logits(model, ids)).logits;
};

/** What the plan says of a model's weights, and the largest of them in packed form. */
async function plannedSizes(path: string) {
  const checkpoint = await openCheckpoint(path);
  const infos = checkpoint.names.map(name => checkpoint.info(name));
  const packed = infos.filter(({ blocks }) => blocks).map(({ byteLength }) => byteLength);
  const sizes = weightSizes(await readArchitecture(path), checkpoint, 8);
  await checkpoint.close();
  return { ...sizes, largest: Math.max(0, ...packed) };
}

for (const [name, dtype, stated] of [
  ['packed-order', 'bf16', 'bfloat16'],
  ['gptq-experts', 'f16', 'float16'],
] as const) {
  const from = dataPath('compressed', name);

  test(`${name}: a repaired model is written in the number type of its config.json, and says so`, async () => {
    const to = join(folder.path, name);
    mkdirSync(to);
    const { logits: expected } = await (async () => {
      await using model = await Model.load(device, from);
      return await prunedFamily(model, { folder: from, ids }, 'refit', to, [{ layer: 0, count: 1 }]);
    })();
    assert.ok(maxAbsError(await logitsOf(to), expected) < 1e-4);
    const config = JSON.parse(readFileSync(join(to, 'config.json'), 'utf8'));
    assert.equal([config.quantization_config, config.dtype], [undefined, stated]);
    const written = await openCheckpoint(to);
    for (const tensor of written.names) {
      assert.match(tensor, /\.weight$/);
      assert.is(written.info(tensor).dtype, dtype);
    }
    await written.close();
    assert.match((await modelWarnings(from)).join(), new RegExp(`are compressed .* read as ${dtype}`));
    assert.equal(await modelWarnings(to), []);
  });

  test(`${name}: streamed layers give the same bits, and so does a converted folder`, async () => {
    const expected = await logitsOf(from);
    assert.equal(await logitsOf(from, { prefetch: true }), expected);
    const to = join(folder.path, `${name}-converted`);
    await convert(device, from, to);
    assert.equal(await logitsOf(to), expected);
    const [before, after] = [await plannedSizes(from), await plannedSizes(to)];
    assert.equal([before.weightBytes, before.layerBytes], [after.weightBytes, after.layerBytes]);
    assert.is(before.outerBytes - after.outerBytes, 2 * before.largest);
  });
}

test.run();
