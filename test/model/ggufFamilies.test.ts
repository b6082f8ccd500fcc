import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeToF32 } from '../../engine/dtype.js';
import { Device } from '../../engine/index.js';
import { convert, logits, Model, openCheckpoint } from '../../model/index.js';
import { prune } from '../../replaceme/index.js';
import { familyData } from '../familyData.js';
import { ggufCases, writeGgufCase } from '../ggufFamilies.js';
import { maxAbsError, rejectsWith } from '../gpu.js';
import { type TemporaryFolder, temporaryFolder } from '../support.js';

let device: Device;
let place: TemporaryFolder;
const at = (name: string) => join(place.path, name.replaceAll(' ', '-'));
test.before(async () => {
  device = await Device.open();
  place = temporaryFolder();
});
test.after(async () => {
  place[Symbol.dispose]();
  await device.close();
});

async function logitsOf(path: string, ids: readonly number[]): Promise<Float32Array> {
  using model = await Model.load(device, path);
  return (await logits(model, ids)).logits;
}

/** Of every tensor its values. */
async function valuesOf(path: string): Promise<Map<string, Float32Array>> {
  const checkpoint = await openCheckpoint(path);
  const found = new Map<string, Float32Array>();
  for (const name of checkpoint.names) {
    found.set(name, decodeToF32(await checkpoint.read(name), checkpoint.info(name).dtype));
  }
  await checkpoint.close();
  return found;
}

for (const [name, given] of Object.entries(ggufCases)) {
  test(`${name}: folder to GGUF and back, pruned to GGUF and from GGUF`, async () => {
    const { ids, logits: golden } = await familyData(given.family);
    const [folder, file, back] = [at(name), at(`${name}.gguf`), at(`${name}-back`)];
    writeGgufCase(folder, given);
    await convert(device, folder, file, { type: 'F32' });
    const expected = await logitsOf(folder, ids);
    // As its config is, transformers has computed the model.
    if (!given.config) assert.ok(maxAbsError(expected, golden) < 1e-4);
    const error = maxAbsError(await logitsOf(file, ids), expected);
    assert.ok(error < 1e-5, `GGUF: ${error}`);
    await convert(device, file, back);
    assert.ok(maxAbsError(await logitsOf(back, ids), expected) < 1e-5);
    const before = await valuesOf(folder);
    for (const [tensor, values] of await valuesOf(back)) {
      const known = before.get(tensor);
      // A head that was the embedding is a tensor of its own; the language model of an image model has other names.
      if (known) assert.ok(maxAbsError(values, known) < 1e-6, tensor);
      else assert.ok(name === 'gemma3-multimodal' || tensor.includes('lm_head'), tensor);
    }

    const options = { device, remove: [given.remove ?? 1], method: 'plain', report: 'none' } as const;
    await prune(folder, at(`${name}-p`), options);
    await prune(folder, at(`${name}-pf.gguf`), options);
    await prune(file, at(`${name}-pg.gguf`), options);
    const pruned = await logitsOf(at(`${name}-p`), ids);
    for (const path of [`${name}-pf.gguf`, `${name}-pg.gguf`]) {
      assert.ok(maxAbsError(await logitsOf(at(path), ids), pruned) < 1e-5, path);
    }
    assert.ok(maxAbsError(pruned, expected) > 1e-3, 'the layer counts');
  });
}

test('new values of experts and of gains go into a GGUF file, from a folder and from GGUF', async () => {
  for (const [name, method, layers] of [
    ['mixtral', 'replaceme-ls', 1],
    ['qwen2_moe', 'refit', 1],
    ['gemma2', 'replaceme-diagonal', 2],
  ] as const) {
    for (const from of [name, `${name}.gguf`]) {
      const out = at(`${from.replace('.', '-')}-mended.gguf`);
      // What is written is loaded again and compared with the model in memory.
      const report = await prune(at(from), out, {
        device,
        layers,
        window: 1,
        method,
        tokens: 400,
        report: 'none',
      });
      assert.ok(report.verification.maxLogitDifference <= 1e-4);
    }
  }
});

test('converting what a GGUF file cannot say is refused, and nothing is left', async () => {
  writeGgufCase(at('refused'), { family: 'mistral' });
  const convertIt = () => convert(device, at('refused'), at('refused.gguf'));
  assert.match(await rejectsWith(convertIt, 'UNSUPPORTED_FAMILY'), /use a sliding window/);
  assert.not.ok(existsSync(at('refused.gguf')));
});

test.run();
