import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeSyntheticCheckpoint } from '../../bench/syntheticCheckpoint.js';
import { decodeToF32 } from '../../engine/dtype.js';
import { Device } from '../../engine/index.js';
import { logits, Model, openSafetensors } from '../../model/index.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

const model = { layers: 5, hidden: 64, intermediate: 160, heads: 4, kvHeads: 2, vocab: 300, shards: 4 };

test('weights of the given dimensions, spread as they should be, in as many files as asked for', async () => {
  using folder = temporaryFolder();
  const written = await writeSyntheticCheckpoint(folder.path, { ...model, tied: false });
  const layer = 64 * (64 + 64 + 2 * 32) + 3 * 64 * 160 + 2 * 64;
  assert.is(written.bytes, 2 * (5 * layer + 2 * 300 * 64 + 64));
  assert.is(written.files.length, 4);
  const sizes = written.files.map(name => readFileSync(join(folder.path, name)).byteLength);
  assert.ok(Math.max(...sizes) < (1.4 * written.bytes) / 4, `${sizes}`);

  const checkpoint = await openSafetensors(folder.path);
  const values = decodeToF32(await checkpoint.read('model.layers.3.mlp.down_proj.weight'), 'bf16');
  await checkpoint.close();
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + value * value, 0) / values.length;
  // 10 240 draws: five standard errors of mean and variance.
  assert.ok(Math.abs(mean) < (5 * Math.sqrt(1 / 160)) / 100, `${mean}`);
  assert.ok(Math.abs(160 * variance - 1) < 5 * Math.sqrt(2 / 10_240), `${160 * variance}`);
});

test('a model that runs; the same seed gives the same bytes, another one others', async () => {
  using folder = temporaryFolder();
  const bytesOf = async (name: string, seed: number) => {
    const at = join(folder.path, name);
    const { files } = await writeSyntheticCheckpoint(at, { ...model, shards: 1, seed });
    return readFileSync(join(at, files[0]!));
  };
  const first = await bytesOf('first', 0);
  assert.equal(await bytesOf('again', 0), first);
  assert.not.equal(await bytesOf('other', 1), first);

  await using device = await Device.open();
  using loaded = await Model.load(device, join(folder.path, 'first'));
  const ids = await (await loadTokenizer(join(folder.path, 'first'))).encode('Any text.');
  assert.ok((await logits(loaded, ids)).logits.every(Number.isFinite));
});

test('dimensions that do not fit together are refused', async () => {
  using folder = temporaryFolder();
  await rejectsWith(() => writeSyntheticCheckpoint(folder.path, { ...model, heads: 5 }), 'INVALID_ARGUMENT');
});

test.run();
