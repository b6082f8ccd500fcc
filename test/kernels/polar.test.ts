import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, tensorFrom } from '../../engine/index.js';
import { polar } from '../../kernels/solve/polar.js';
import { normals, rejectsWith, relativeError } from '../gpu.js';
import { polarF64 } from './polarF64.js';
import { geometric } from './spectrum.js';

// One device: each new one compiles its kernels again.
const device = await Device.open();
test.after(() => device.close());

/** U S V' of random orthogonal U and V with these singular values, rounded to f32. */
function withSingularValues(values: Float64Array): Float32Array {
  const d = values.length;
  const a = new Float64Array(d * d);
  for (let i = 0; i < d; i++) a[i * d + i] = values[i]!;
  for (let turn = 0; turn < 24; turn++) {
    const v = normals(d, 50 + turn);
    const length = v.reduce((sum, value) => sum + value * value, 0);
    // Reflections from the left and from the right in turn.
    const [along, across] = turn % 2 ? [d, 1] : [1, d];
    for (let line = 0; line < d; line++) {
      let dot = 0;
      for (let k = 0; k < d; k++) dot += v[k]! * a[line * across + k * along]!;
      for (let k = 0; k < d; k++) a[line * across + k * along]! -= (2 * dot * v[k]!) / length;
    }
  }
  return Float32Array.from(a);
}

for (const [d, condition, factor] of [
  [1, 1, -3],
  [7, 1, 1],
  [48, 1e3, 1],
  [48, 1e3, 1e15],
  [33, 10, 1e-12],
  [130, 1e2, 1],
  [48, 1e4, 1],
] as const) {
  test(`polar factor of ${d}x${d}, condition ${condition}, times ${factor}`, async () => {
    const a = withSingularValues(geometric(d, condition)).map(value => value * factor);
    {
      using scope = new Scope(device);
      const result = await polar(device, scope.own(tensorFrom(device, a, [d, d])));
      const found = await downloadF32(scope.own(result.factor));
      let squares = 0;
      for (let i = 0; i < d; i++) {
        for (let j = 0; j < d; j++) {
          let dot = i === j ? -1 : 0;
          for (let k = 0; k < d; k++) dot += found[k * d + i]! * found[k * d + j]!;
          squares += dot * dot;
        }
      }
      const orthogonality = Math.sqrt(squares / d);
      assert.ok(orthogonality < 1e-5, `${orthogonality}`);
      assert.ok(Math.abs(result.orthogonality - orthogonality) < 1e-6);
      const error = relativeError(found, polarF64(a, d));
      // The condition number of the polar factor is that of A, its unit 2^-24.
      assert.ok(error < 4 * condition * 2 ** -24 + 1e-6, `error ${error}`);
      assert.ok(result.iterations <= 20);
    }
    assert.is(device.memory.liveBytes, 0);
  });
}

test('singular matrices and NaN are typed errors', async () => {
  const d = 40;
  const run = async (values: Float32Array) => {
    using scope = new Scope(device);
    const { factor } = await polar(device, scope.own(tensorFrom(device, values, [d, d], 'C')));
    factor.dispose();
  };
  const values = geometric(d, 10);
  const singular = withSingularValues(values.map((value, i) => (i === 11 ? 0 : value)));
  const message = await rejectsWith(() => run(singular), 'NOT_CONVERGED');
  assert.match(message, "'C' [40,40] is singular");
  await rejectsWith(() => run(new Float32Array(d * d)), 'NOT_CONVERGED');
  const zeroColumn = withSingularValues(values).map((value, i) => (i % d === 3 ? 0 : value));
  await rejectsWith(() => run(zeroColumn), 'NOT_CONVERGED');
  await rejectsWith(() => run(singular.map((value, i) => (i === 5 ? Number.NaN : value))), 'NOT_FINITE');
  assert.is(device.memory.liveBytes, 0);
});

test.run();
