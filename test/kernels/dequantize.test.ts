import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { asF32, decodeToF32, downloadF32, encodeFromF32, Tensor, tensorFrom } from '../../engine/index.js';
import { blockFormatCases, dequantizedOnHost } from '../../kernels/cases/blockFormats.js';
import { type BlockFormat, blockFormats, dequantize } from '../../kernels/elementwise/dequantize.js';
import { rejectsWith } from '../gpu.js';
import { dataPath } from '../support.js';
import { testCases } from './runCases.js';

const device = testCases(blockFormatCases);

const golden = JSON.parse(readFileSync(dataPath('gguf', 'blocks.json'), 'utf8')) as Record<
  string,
  { bytes: string; values: string }
>;

/** Values of blocks as the Python package gguf reads them. */
const goldenOf = (format: BlockFormat) => ({
  bytes: new Uint8Array(Buffer.from(golden[format]!.bytes, 'base64')),
  values: asF32(new Uint8Array(Buffer.from(golden[format]!.values, 'base64'))),
});

/** In units of the largest value: a fused multiply-add differs in the last place from a product and a sum. */
function worst(found: ArrayLike<number>, expected: Float32Array): number {
  const largest = Math.max(...expected.map(Math.abs));
  return Math.max(...expected.map((value, i) => Math.abs(found[i]! - value))) / largest;
}

for (const format of blockFormats) {
  test(`${format}: the host's reference and the kernel read what gguf reads`, async () => {
    const { bytes, values } = goldenOf(format);
    assert.ok(worst(dequantizedOnHost(bytes, format, values.length), values) < 2e-7, 'host');
    const words = new Uint32Array(Math.ceil(bytes.length / 4));
    new Uint8Array(words.buffer).set(bytes);
    using blocks = tensorFrom(device(), words);
    using out = Tensor.create(device(), [2, values.length / 2], 'f32');
    dequantize(device().recorder, blocks, format, out);
    assert.ok(worst(await downloadF32(out), values) < 2e-7, 'f32');
    using narrow = Tensor.create(device(), [2, values.length / 2], 'f16');
    dequantize(device().recorder, blocks, format, narrow);
    assert.ok(
      worst(await downloadF32(narrow), decodeToF32(encodeFromF32(values, 'f16'), 'f16')) < 5e-4,
      'f16',
    );
  });
}

test('too few blocks are refused', async () => {
  using blocks = tensorFrom(device(), new Uint32Array(4));
  using out = Tensor.create(device(), [1, 32]);
  const message = await rejectsWith(
    () => dequantize(device().recorder, blocks, 'Q4_0', out),
    'INVALID_ARGUMENT',
  );
  assert.match(message, /32 elements of Q4_0 take 18/);
  using odd = Tensor.create(device(), [1, 33]);
  await rejectsWith(() => dequantize(device().recorder, blocks, 'Q4_0', odd), 'INVALID_ARGUMENT');
});

test.run();
