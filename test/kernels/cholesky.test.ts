import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Scope, tensorFrom } from '../../engine/index.js';
import { gramAndSolveCases } from '../../kernels/cases/gramAndSolve.js';
import { disposeDoubleSingle, uploadF64 } from '../../kernels/shared/doubleSingle.js';
import { cholesky } from '../../kernels/solve/cholesky.js';
import { rejectsWith } from '../gpu.js';
import { testCases } from './runCases.js';

const shared = testCases(
  gramAndSolveCases.filter(({ kernel }) => ['cholesky', 'triangularSolve', 'solveResidual'].includes(kernel)),
);

/** Identity but for one diagonal element. */
function identity(n: number, at: number, value: number): Float32Array {
  const values = new Float32Array(n * n);
  for (let i = 0; i < n; i++) values[i * n + i] = i === at ? value : 1;
  return values;
}

for (const [n, at, value] of [
  [1, 0, -2],
  [40, 0, 0],
  [100, 57, -0.25],
  [65, 64, Number.NaN],
] as const) {
  test(`pivot ${at} of ${n} is ${value}: NOT_POSITIVE_DEFINITE names it, in both precisions`, async () => {
    const device = shared();
    using scope = new Scope(device);
    const values = identity(n, at, value);
    const pair = await uploadF64(device, values, [n, n], 'G');
    for (const matrix of [scope.own(tensorFrom(device, values, [n, n], 'G')), pair]) {
      const factor = cholesky(device.recorder, matrix);
      const message = await rejectsWith(() => factor.check(), 'NOT_POSITIVE_DEFINITE');
      assert.match(message, `pivot ${at} is ${Number.isNaN(value) ? 'NaN' : value.toExponential(3)}`);
      assert.match(message, `'G${'hi' in matrix ? ' hi' : ''}' [${n},${n}]`);
      factor.dispose();
    }
    disposeDoubleSingle(pair);
  });
}

test('a factorisation is one submit', async () => {
  const device = shared();
  using scope = new Scope(device);
  const { recorder } = device;
  const matrix = scope.own(tensorFrom(device, identity(300, 0, 2), [300, 300], 'G'));
  await recorder.finish();
  const before = recorder.submits;
  const factor = cholesky(recorder, matrix);
  assert.is(recorder.submits, before, 'nothing is submitted while recording');
  await factor.check();
  assert.is(recorder.submits, before + 1, 'with the read-out of the status');
  factor.dispose();
});

test('a matrix that is not square is refused', async () => {
  const device = shared();
  using scope = new Scope(device);
  await rejectsWith(() => cholesky(device.recorder, scope.tensor([3, 4])), 'INVALID_ARGUMENT');
});

test.run();
