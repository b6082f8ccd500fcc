import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  downloadF32,
  downloadU32,
  encodeFromF32,
  Scope,
  tensorFrom,
  tensorFromBytes,
} from '../../engine/index.js';
import { reductionCases } from '../../kernels/cases/reductions.js';
import { argmax, NOT_FINITE } from '../../kernels/reductions/argmax.js';
import { cosineDistance } from '../../kernels/reductions/cosineDistance.js';
import { countNonFinite } from '../../kernels/reductions/countNonFinite.js';
import { type FloatType, floats } from '../../kernels/shared/checks.js';
import { normals } from '../gpu.js';
import { testCases } from './runCases.js';

const device = testCases(reductionCases);

for (const dtype of floats) {
  test(`countNonFinite ${dtype} adds to its counter`, async () => {
    using scope = new Scope(device());
    const count = async (values: Float32Array) => {
      const bytes = encodeFromF32(values, dtype as FloatType);
      const x = scope.own(await tensorFromBytes(scope.device, bytes, [values.length], dtype));
      const counter = scope.tensor([1], 'u32');
      scope.device.recorder.clear(counter);
      countNonFinite(scope.device.recorder, x, counter);
      countNonFinite(scope.device.recorder, x, counter);
      return (await downloadU32(counter))[0];
    };
    for (const size of [1, 7, 129, 1000]) {
      const values = normals(size);
      assert.is(await count(values), 0, `${size} finite values`);
      values[size - 1] = Number.NaN;
      assert.is(await count(values), 2, `NaN at the end of ${size}`);
      values[0] = Number.NEGATIVE_INFINITY;
      if (size > 2) values[Math.floor(size / 2)] = Number.POSITIVE_INFINITY;
      assert.is(await count(values), size > 2 ? 6 : 2, `three of ${size}`);
    }
    assert.is(await count(Float32Array.of(6.5e4, -6.5e4, 0, -0)), 0, 'large finite values');
  });
}

test('cosineDistance: a row that is not finite gives NaN, a zero row 1', async () => {
  using scope = new Scope(device());
  const rows = [
    [1, 2, 3],
    [1, Number.NaN, 3],
    [0, Number.POSITIVE_INFINITY, 0],
    [Number.NaN, Number.NaN, Number.NaN],
    [0, 0, 0],
  ];
  const a = scope.own(tensorFrom(scope.device, Float32Array.from(rows.flat()), [5, 3]));
  const b = scope.own(tensorFrom(scope.device, Float32Array.from(rows.flatMap(() => [1, 2, 3])), [5, 3]));
  const out = scope.tensor([5]);
  cosineDistance(scope.device.recorder, a, b, out);
  assert.equal([...(await downloadF32(out))], [0, Number.NaN, Number.NaN, Number.NaN, 1]);
});

test('argmax: a row that is not finite gives NOT_FINITE, zeros of either sign are equal', async () => {
  using scope = new Scope(device());
  for (const columns of [6, 9000]) {
    const row = (...values: number[]) => [...values, ...new Array<number>(columns - values.length).fill(-1)];
    const rows = [
      row(1, 3.4e38, 3),
      row(1, Number.NaN, 3),
      row(Number.NEGATIVE_INFINITY, 5),
      row(-2, -0, 0),
      [...row(-2).slice(1), Number.POSITIVE_INFINITY],
    ];
    const x = scope.own(tensorFrom(scope.device, Float32Array.from(rows.flat()), [rows.length, columns]));
    const out = scope.tensor([rows.length], 'u32');
    argmax(scope.device.recorder, x, out);
    assert.equal([...(await downloadU32(out))], [1, NOT_FINITE, NOT_FINITE, 1, NOT_FINITE]);
  }
});

test.run();
