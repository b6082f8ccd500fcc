import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type DType, encodeFromF32 } from '../../engine/dtype.js';
import { Device, download, Scope, tensorFrom } from '../../engine/index.js';
import { SpillFile } from '../../model/index.js';
import { nonFiniteIn, toDevice } from '../../model/transformer/spilledWeights.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

async function* pieces(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes.subarray(0, 8);
  yield bytes.subarray(8);
}

test('what is not finite is counted by its bits, in every type', async () => {
  using place = temporaryFolder();
  await using file = new SpillFile(join(place.path, 'out'));
  const large = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  const values = Float32Array.of(1, large[0]!, 3e-5, large[1]!, -65504, large[2]!);
  for (const dtype of ['f32', 'f16', 'bf16'] satisfies DType[]) {
    const waiting = await file.addBytes([6], dtype, pieces(encodeFromF32(values, dtype)));
    assert.is(await nonFiniteIn(waiting), 3, dtype);
  }
});

test('tensors wait in a file without a name beside an output that is not there yet, and come back as they were', async () => {
  using place = temporaryFolder();
  await using device = await Device.open();
  await using file = new SpillFile(join(place.path, 'folder', 'out'));
  // Larger than a piece of 64 MiB.
  const large = new Uint8Array(2 ** 26 + 8).fill(7);
  for (const at of [0, 2 ** 25, 2 ** 26 - 1, 2 ** 26, 2 ** 26 + 7]) large[at] = at % 251;
  const down = await file.addBytes([large.byteLength / 2], 'bf16', pieces(large));
  const numbers = Float32Array.from({ length: 7 }, (_, i) => Math.sin(i));
  const bytes = new Uint8Array(numbers.buffer);
  using small = tensorFrom(device, numbers, [7]);
  const bias = await file.add(small);
  assert.equal(readdirSync(place.path), [], 'no name');
  assert.equal(await bias.read(4, 8), bytes.subarray(4, 12));
  using scope = new Scope(device);
  const back = await toDevice(device, { down, downBias: bias }, scope);
  assert.ok(Buffer.from(large).equals(await download(back.down!)));
  assert.equal(await download(back.downBias!), bytes);
});

test('a place that cannot be written is a typed error', async () => {
  using place = temporaryFolder();
  writeFileSync(join(place.path, 'file'), '');
  await using file = new SpillFile(join(place.path, 'file', 'out'));
  const message = await rejectsWith(
    () => file.addBytes([4], 'f32', pieces(new Uint8Array(16))),
    'OUTPUT_FAILED',
  );
  assert.match(message, /cannot be written/);
});

test.run();
