import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { readDense } from '../../model/checkpoint/denseTensor.js';
import { logits, Model, openCheckpoint, readArchitecture } from '../../model/index.js';
import { dataPath } from '../support.js';

// Compressed weights against what their libraries make of them (test/python/make_compressed.py). Takes about 4 s.

interface Golden {
  ids: number[];
  logits: number[][];
  stored: Record<string, string>;
  f32: Record<string, string>;
}

const folder = dataPath('compressed');
const names = readdirSync(folder).sort();
const goldenOf = (name: string): Golden =>
  JSON.parse(readFileSync(join(folder, name, 'golden.json'), 'utf8'));

/** Models of which logits are compared too: weights of every layout, and experts, which are read together. */
const computed = ['fp8-blocks', 'packed-order', 'nvfp4', 'awq-experts', 'gptq-experts'];

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(() => device.close());

for (const name of names) {
  const path = join(folder, name);
  const golden = goldenOf(name);

  test(`${name}: dequantised to the bit, in the model's number type and in f32`, async () => {
    for (const dtype of [undefined, 'f32'] as const) {
      const checkpoint = await openCheckpoint(path, dtype);
      const expected = dtype ? golden.f32 : golden.stored;
      const found: Record<string, string> = {};
      for (const tensor of checkpoint.names) {
        if (!checkpoint.info(tensor).blocks) continue;
        const bytes = await readDense(device, checkpoint, tensor);
        found[tensor] = createHash('sha256').update(bytes).digest('hex');
      }
      await checkpoint.close();
      assert.equal(found, Object.fromEntries(Object.entries(expected).sort()), dtype ?? 'stored');
    }
  });

  if (!computed.includes(name)) continue;
  test(`${name}: the logits of transformers`, async () => {
    await using model = await Model.load(device, path);
    const found = (await logits(model, golden.ids)).logits;
    const worst = Math.max(...golden.logits.flat().map((value, i) => Math.abs(value - found[i]!)));
    assert.ok(worst < 1e-4, `${worst}`);
    assert.is((await readArchitecture(path)).layers, 2);
  });
}

test.run();
