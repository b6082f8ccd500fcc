import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { disposeDoubleSingle, downloadF64, uploadF64 } from '../../kernels/shared/doubleSingle.js';
import { type SolveOptions, solveSpd, solveSpdPath } from '../../kernels/solve/solveSpd.js';
import { normals, rejectsWith, relativeError } from '../gpu.js';
import { geometric, withSpectrum } from './spectrum.js';

// One device: each new one compiles its kernels again.
const device = await Device.open();
test.after(() => device.close());
/** SwiftShader takes minutes for larger matrices. */
const largest = /swiftshader/i.test(device.info.description) ? 400 : Number.POSITIVE_INFINITY;

/** |B - (A + shift I) X|_F / |B|_F in f64. */
function residualOf(a: Float64Array, x: Float64Array, b: ArrayLike<number>, r: number, shift = 0): number {
  const n = Math.sqrt(a.length);
  const product = new Float64Array(n * r);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      const value = a[i * n + k]! + (i === k ? shift : 0);
      for (let c = 0; c < r; c++) product[i * r + c]! += value * x[k * r + c]!;
    }
  }
  return relativeError(product, b);
}

async function solve(
  device: Device,
  a: Float64Array,
  b: ArrayLike<number>,
  r: number,
  options?: SolveOptions,
) {
  const n = Math.sqrt(a.length);
  const matrix = await uploadF64(device, a, [n, n], 'A');
  const right = await uploadF64(device, b, [n, r], 'B');
  try {
    const { x, report } = await solveSpd(device, matrix, right, { label: 'A', ...options });
    const values = await downloadF64(x);
    disposeDoubleSingle(x);
    return { values, report };
  } finally {
    disposeDoubleSingle(matrix);
    disposeDoubleSingle(right);
    assert.is(device.memory.liveBytes, 0);
  }
}

for (const [n, r, condition, most, method] of [
  [1, 1, 1, 1e-13, 'double-single refinement'],
  [7, 3, 1e3, 1e-12, 'double-single refinement'],
  [400, 2, 1e3, 1e-12, 'refinement'],
  [500, 1, 1e5, 1e-11, 'refinement'],
  [129, 65, 1e4, 1e-12, 'double-single refinement'],
  [576, 32, 1e6, 1e-10, 'double-single refinement'],
  [300, 20, 1e6, 1e-10, 'double-single refinement'],
  [300, 20, 1e8, 1e-8, 'double-single refinement'],
  [576, 32, 1e9, 1e-6, 'double-single refinement'],
  [1000, 9, 1e9, 1e-6, 'double-single refinement'],
] as const) {
  if (n > largest) continue;
  test(`n = ${n}, ${r} right-hand sides, condition ${condition}: residual within ${most}`, async () => {
    const a = withSpectrum(geometric(n, condition));
    const b = normals(n * r, 5);
    const { values, report } = await solve(device, a, b, r);
    const found = residualOf(a, values, b, r);
    assert.ok(found <= most, `residual ${found}, report ${JSON.stringify(report)}`);
    assert.ok(
      report.relativeResidual <= most && report.relativeResidual >= found / 4,
      JSON.stringify(report),
    );
    assert.is(report.method, method);
    const ratio = report.conditionEstimate / condition;
    assert.ok(ratio > 0.1 && ratio < 10, `condition estimated ${report.conditionEstimate}`);
    assert.is(report.shiftUsed, 0);
  });
}

test('rows and columns of scales 1e-6 .. 1e6 do not matter', async () => {
  const n = 100;
  const a = withSpectrum(geometric(n, 1e5), i => 10 ** ((i % 13) - 6));
  const b = Float32Array.from(normals(n * 4, 6), (value, i) => value * 10 ** ((Math.floor(i / 4) % 13) - 6));
  const { values, report } = await solve(device, a, b, 4);
  assert.ok(residualOf(a, values, b, 4) <= 1e-10);
  assert.ok(report.conditionEstimate < 1e6 && report.conditionEstimate > 1e4, `${report.conditionEstimate}`);
});

/** A X for symmetric A [n,n] in f64. */
function product(a: Float64Array, x: ArrayLike<number>, r: number): Float64Array {
  const n = Math.sqrt(a.length);
  const out = new Float64Array(n * r);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      for (let c = 0; c < r; c++) out[i * r + c]! += a[i * n + k]! * x[k * r + c]!;
    }
  }
  return out;
}

for (const [condition, accuracy] of [
  [1e3, 1e-7],
  [1e6, 1e-7],
  [1e6, undefined],
  [1e9, 1e-6],
] as const) {
  test(`condition ${condition}, accuracy ${accuracy ?? 'the best'}: the error of X is what the report says`, async () => {
    const [n, r] = [200, 70];
    const a = withSpectrum(geometric(n, condition));
    const x = normals(n * r, 9);
    const b = product(a, x, r);
    const { values, report } = await solve(device, a, b, r, accuracy ? { accuracy } : {});
    const error = relativeError(values, x);
    assert.ok(error <= (accuracy ?? 1e-9), `error ${error}, report ${JSON.stringify(report)}`);
    // B is rounded to 48 bits before the solver sees it.
    assert.ok(error <= 4 * report.relativeError + condition * 2 ** -48, `${error} ${JSON.stringify(report)}`);
  });
}

for (const [n, r, bindingLimit] of [
  [600, 150, 700_000],
  [545, 140, 800_000],
] as const) {
  test(`n = ${n}, ${r} right-hand sides, bindings of ${bindingLimit} bytes: the same bits`, async () => {
    const a = withSpectrum(geometric(n, 1e7));
    const b = normals(n * r, 10);
    await using small = await Device.open({ bindingLimit });
    const whole = await solve(device, a, b, r, { shift: 1e-6 });
    const pieces = await solve(small, a, b, r, { shift: 1e-6 });
    assert.equal(pieces.report, whole.report);
    assert.equal(pieces.values, whole.values);
  });
}

test('a path of shifts gives what each shift gives alone, and frees all when it is left early', async () => {
  const [n, r] = [90, 40];
  const a = withSpectrum(geometric(n, 1e6));
  const b = normals(n * r, 11);
  const shifts = [1, 1e-3, 0];
  const alone = [];
  for (const shift of shifts) alone.push(await solve(device, a, b, r, { shift }));
  const matrix = await uploadF64(device, a, [n, n], 'A');
  const right = await uploadF64(device, b, [n, r], 'B');
  const before = device.memory.liveBytes;
  let i = 0;
  for await (const { x, report } of solveSpdPath(device, matrix, right, shifts)) {
    assert.equal(await downloadF64(x), alone[i]!.values);
    assert.equal(report, alone[i]!.report);
    disposeDoubleSingle(x);
    i++;
  }
  assert.is(i, shifts.length);
  for await (const { x } of solveSpdPath(device, matrix, right, shifts)) {
    disposeDoubleSingle(x);
    break;
  }
  assert.is(device.memory.liveBytes, before);
  disposeDoubleSingle(matrix);
  disposeDoubleSingle(right);
});

test('the shift makes a singular matrix solvable, and without it the error names the pivot', async () => {
  const n = 90;
  const a = withSpectrum(Float64Array.from({ length: n }, (_, i) => (i < 60 ? 2 : 0)));
  const b = normals(n * 3, 7);
  const message = await rejectsWith(() => solve(device, a, b, 3), 'NOT_POSITIVE_DEFINITE');
  assert.match(message, /^'A' \[90,90\] is not positive definite: pivot \d+ is /);
  const shift = 1e-3;
  const { values, report } = await solve(device, a, b, 3, { shift });
  assert.ok(residualOf(a, values, b, 3, shift) <= 1e-10);
  assert.is(report.shiftUsed, shift);
});

test('an indefinite matrix, NaN and a residual above the tolerance are typed errors', async () => {
  const n = 40;
  const indefinite = withSpectrum(geometric(n, 100).map((value, i) => (i === 5 ? -value : value)));
  const b = normals(n, 8);
  await rejectsWith(() => solve(device, indefinite, b, 1), 'NOT_POSITIVE_DEFINITE');
  const broken = withSpectrum(geometric(n, 100));
  broken[3 * n + 3] = Number.NaN;
  await rejectsWith(() => solve(device, broken, b, 1), 'NOT_FINITE');
  const fine = withSpectrum(geometric(n, 1e6));
  const message = await rejectsWith(() => solve(device, fine, b, 1, { tolerance: 1e-18 }), 'NOT_CONVERGED');
  assert.match(message, 'condition about');
  await rejectsWith(() => solve(device, fine, normals(7), 7), 'INVALID_ARGUMENT');
});

test.run();
