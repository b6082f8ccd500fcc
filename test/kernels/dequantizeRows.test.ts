import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { asU32, download, encodeFromF32, Tensor, tensorFrom } from '../../engine/index.js';
import { numberOf, numbersOf, packedRecords, packedRowCases } from '../../kernels/cases/packedRows.js';
import {
  type CodeFormat,
  dequantizeRows,
  type PackedRows,
} from '../../kernels/elementwise/dequantizeRows.js';
import { rejectsWith } from '../gpu.js';
import { testCases } from './runCases.js';

// Takes about 3 s.

const device = testCases(packedRowCases);

/** Bits of what the kernel gives, as f32 or narrower. */
async function dequantized(
  format: PackedRows,
  words: Uint32Array,
  rows: number,
  to: 'f32' | 'bf16' | 'f16',
): Promise<Uint8Array> {
  using packed = tensorFrom(device(), words);
  using out = Tensor.create(device(), [rows, format.columns], to);
  dequantizeRows(device().recorder, packed, format, out);
  return await download(out);
}

for (const codes of ['e4m3', 'e5m2', 'e2m1'] as CodeFormat[]) {
  test(`${codes}: every code, with every power of two as scale, to the bit`, async () => {
    const finite = Array.from({ length: codes === 'e2m1' ? 16 : 256 }, (_, code) => code).filter(code =>
      Number.isFinite(numberOf(codes, code)),
    );
    const columns = finite.length;
    const format: PackedRows = { codes, columns, groups: 1, groupColumns: columns, zero: 0, ordered: false };
    const powers = Array.from({ length: 255 }, (_, byte) => 2 ** (byte - 127));
    const parts = { codes: powers.map(() => finite), scales: powers.map(power => [power]) };
    const words = packedRecords(format, parts);
    const expected = numbersOf(format, parts);
    assert.equal(asU32(await dequantized(format, words, 255, 'f32')), new Uint32Array(expected.buffer));
    for (const to of ['bf16', 'f16'] as const) {
      assert.equal(await dequantized(format, words, 255, to), encodeFromF32(expected, to), to);
    }
  });

  test(`${codes}: NaN and infinity stay what they are`, async () => {
    const special = Array.from({ length: 256 }, (_, code) => code).filter(
      code => codes !== 'e2m1' && !Number.isFinite(numberOf(codes, code)),
    );
    if (special.length === 0) return;
    const columns = special.length;
    const format: PackedRows = { codes, columns, groups: 1, groupColumns: columns, zero: 0, ordered: false };
    const parts = { codes: [special], scales: [[0.5]] };
    const found = new Float32Array(
      (await dequantized(format, packedRecords(format, parts), 1, 'f32')).buffer,
    );
    assert.equal([...found], [...numbersOf(format, parts)]);
  });
}

test('too few words and columns without a group are refused', async () => {
  const format: PackedRows = {
    ...{ codes: 'u4', columns: 16, groups: 1, groupColumns: 16, zero: 8, ordered: false },
  };
  assert.match(
    await rejectsWith(() => dequantized(format, new Uint32Array(2), 1, 'f32'), 'INVALID_ARGUMENT'),
    /take 12/,
  );
  const short = { ...format, groupColumns: 8 };
  assert.match(
    await rejectsWith(() => dequantized(short, new Uint32Array(3), 1, 'f32'), 'INVALID_ARGUMENT'),
    /1 groups of 8 for 16 columns/,
  );
});

test.run();
