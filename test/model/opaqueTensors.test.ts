import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { convert } from '../../model/index.js';
import { prune } from '../../replaceme/index.js';
import { rejectsWith } from '../gpu.js';
import { type Entry, readEntries, writeEntries } from '../safetensorsEntries.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

// Tensors of number types that no kernel reads. The files are parsed here, byte by byte. Takes about 3 s.

const random = (count: number): Buffer =>
  Buffer.from(Array.from({ length: count }, (_, i) => (i * 89 + count * 7 + 13) % 251));
const entry = (dtype: string, shape: number[], byteLength: number): Entry => ({
  dtype,
  shape,
  bytes: random(byteLength),
});

/** Every type of the format, in a layer that goes, in one that stays and outside of the layers. */
const others = new Map<string, Entry>(
  (
    [
      ['F64', 8],
      ['I64', 8],
      ['U64', 8],
      ['C64', 8],
      ['I32', 4],
      ['I16', 2],
      ['U16', 2],
      ['I8', 1],
      ['U8', 1],
      ['BOOL', 1],
      ['F8_E4M3', 1],
      ['F8_E5M2', 1],
      ['F8_E8M0', 1],
      ['F8_E4M3FNUZ', 1],
      ['F8_E5M2FNUZ', 1],
      ['F6_E2M3', 0.75],
      ['F4', 0.5],
    ] as const
  ).flatMap(([dtype, size]) => [
    [`extra.${dtype}`, entry(dtype, [3, 8], 24 * size)] as const,
    [`model.layers.1.${dtype}`, entry(dtype, [8], 8 * size)] as const,
    [`model.layers.5.${dtype}`, entry(dtype, [16], 16 * size)] as const,
  ]),
);
others.set('extra.scalar', entry('I64', [], 8));
others.set('extra.empty', entry('F64', [0, 4], 0));

const folder = temporaryFolder();
const model = join(folder.path, 'model');
const file = join(model, 'model.safetensors');

test.before(async () => {
  mkdirSync(model);
  await writeTinyModel(model);
  writeEntries(file, new Map([...readEntries(file), ...others]));
});

test.after(() => folder[Symbol.dispose]());

/** Asserts that a written file holds the other tensors byte for byte, those of layer 1 not, and those of layer 5 as 4. */
function assertCopied(path: string, removed: boolean): void {
  const written = readEntries(path);
  for (const [name, expected] of others) {
    const found = written.get(removed ? name.replace('layers.5', 'layers.4') : name);
    if (removed && name.includes('layers.1.')) assert.is(written.get(name), undefined, name);
    else assert.equal(found, expected, name);
  }
}

test('prune copies them, renumbers those of layers and leaves out those of removed layers', async () => {
  await using device = await Device.open();
  const pruned = join(folder.path, 'pruned');
  await prune(model, pruned, { device, remove: [1], method: 'plain', report: 'none' });
  assertCopied(join(pruned, 'model.safetensors'), true);
});

test('convert copies them, also where it changes the number type of the weights', async () => {
  await using device = await Device.open();
  for (const type of [undefined, 'F16'] as const) {
    const to = join(folder.path, `as ${type}`);
    await convert(device, model, to, type && { type });
    assertCopied(join(to, 'model.safetensors'), false);
    const written = readEntries(join(to, 'model.safetensors')).get('model.norm.weight')!;
    assert.is(written.dtype, type ?? 'BF16');
  }
});

test('a weight of the model itself in such a type is refused before any work', async () => {
  const own = join(folder.path, 'own');
  mkdirSync(own);
  await writeTinyModel(own);
  const path = join(own, 'model.safetensors');
  const tensors = readEntries(path);
  tensors.set('model.norm.weight', entry('F64', [32], 256));
  writeEntries(path, tensors);
  const message = await rejectsWith(
    () => prune(own, join(folder.path, 'never'), { remove: [1], method: 'plain' }),
    'UNSUPPORTED_DTYPE',
  );
  assert.match(message, /"model\.norm\.weight" is stored as F64/);
});

test.run();
