import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  asU16,
  Device,
  type DType,
  decodeToF32,
  download,
  downloadF32,
  encodeFromF32,
  Tensor,
  tensorFrom,
} from '../../engine/index.js';
import { convert } from '../../kernels/map/named.js';
import { normals } from '../gpu.js';

/** Halfway cases, the ends of every range, and numbers of all sizes. */
const values = Float32Array.from([
  ...[0, -0, 1, -1, 65504, 65519.996, 65520, 1e6, -1e6, 3.4e38, -3.4e38, Infinity, -Infinity, Number.NaN],
  ...[2 ** -14, 2 ** -24, 2 ** -25, 1.5 * 2 ** -25, 3 * 2 ** -25, 2 ** -26, 6.1e-5, 1e-7, 1e-45],
  ...[1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 2047.5, 4095.5],
  ...normals(1000, 3).map((value, i) => value * 2 ** ((i % 60) - 30)),
]);

for (const dtype of ['f16', 'bf16'] as const) {
  for (const count of [values.length, values.length - 1, 1]) {
    test(`${count} values to ${dtype} and back equal the host's rounding`, async () => {
      await using device = await Device.open();
      using source = tensorFrom(device, values.subarray(0, count));
      using narrow = Tensor.create(device, [count], dtype);
      using wide = Tensor.create(device, [count], 'f32');
      convert(device.recorder, source, narrow);
      convert(device.recorder, narrow, wide);
      const expected = encodeFromF32(values.slice(0, count), dtype as DType);
      const startsAsNaN = (i: number) => Number.isNaN(values[i]!);
      const same = (found: ArrayLike<number>, wanted: ArrayLike<number>) => {
        for (let i = 0; i < count; i++) {
          if (startsAsNaN(i))
            assert.ok(
              Number.isNaN(
                decodeToF32(new Uint8Array(Uint16Array.of(asU16(expected)[i]!).buffer), dtype)[0]!,
              ),
            );
          else assert.is(found[i], wanted[i], `value ${values[i]} at ${i}`);
        }
      };
      same(asU16(await download(narrow)), asU16(expected));
      same(await downloadF32(wide), decodeToF32(expected, dtype));
    });
  }
}

test.run();
