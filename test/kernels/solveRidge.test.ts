import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, tensorFrom } from '../../engine/index.js';
import { quadraticLoss, solveRidgePath } from '../../kernels/solve/solveRidge.js';
import { normals, rejectsWith, relativeError } from '../gpu.js';
import { geometric, withSpectrum } from './spectrum.js';

// One device: each new one compiles its kernels again.
const device = await Device.open();
test.after(() => device.close());

/** (G + ridge I)^-1 C by an unblocked Cholesky factorisation in f64. */
function solveF64(
  g: ArrayLike<number>,
  c: ArrayLike<number>,
  n: number,
  r: number,
  ridge: number,
): Float64Array {
  const l = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = g[i * n + j]! + (i === j ? ridge : 0);
      for (let k = 0; k < j; k++) sum -= l[i * n + k]! * l[j * n + k]!;
      l[i * n + j] = i === j ? Math.sqrt(sum) : sum / l[j * n + j]!;
    }
  }
  const x = Float64Array.from(c);
  for (let column = 0; column < r; column++) {
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < i; k++) x[i * r + column]! -= l[i * n + k]! * x[k * r + column]!;
      x[i * r + column]! /= l[i * n + i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      for (let k = i + 1; k < n; k++) x[i * r + column]! -= l[k * n + i]! * x[k * r + column]!;
      x[i * r + column]! /= l[i * n + i]!;
    }
  }
  return x;
}

/** (G + ridge I) X in f64. */
function product(g: ArrayLike<number>, x: ArrayLike<number>, n: number, r: number, ridge = 0): Float64Array {
  const out = Float64Array.from(x, value => ridge * value);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      for (let j = 0; j < r; j++) out[i * r + j]! += g[i * n + k]! * x[k * r + j]!;
    }
  }
  return out;
}

const norm = (values: ArrayLike<number>): number =>
  Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0));

const trace = (g: ArrayLike<number>, n: number): number =>
  Array.from({ length: n }, (_, i) => g[i * n + i]!).reduce((sum, value) => sum + value, 0);

for (const [n, r, scales] of [
  [1, 1, undefined],
  [33, 5, undefined],
  [200, 40, undefined],
  [200, 7, (i: number) => 10 ** ((i % 5) - 2)],
] as const) {
  test(`n = ${n}, ${r} right-hand sides${scales ? ', uneven scales' : ''}: X as in f64`, async () => {
    const eigenvalues = geometric(n, 1e6);
    const g = Float32Array.from(withSpectrum(eigenvalues, scales));
    const c = normals(n * r, 3);
    const mean = trace(g, n) / n;
    {
      using scope = new Scope(device);
      const gram = scope.own(tensorFrom(device, g, [n, n], 'G'));
      const cross = scope.own(tensorFrom(device, c, [n, r]));
      const ridges = [1, 1e-2].map(factor => factor * mean);
      let i = 0;
      for await (const { ridge, x } of solveRidgePath(device, gram, cross, ridges)) {
        assert.is(ridge, ridges[i++]);
        const found = await downloadF32(scope.own(x));
        const rest = product(g, found, n, r, ridge).map((value, at) => value - c[at]!);
        const residual = norm(rest) / ((norm(g) + ridge * Math.sqrt(n)) * norm(found) + norm(c));
        assert.ok(residual < 1e-6, `normalised residual ${residual}`);
        const error = relativeError(found, solveF64(g, c, n, r, ridge));
        // The condition of G + ridge I in units of 2^-24; with uneven scales, that of the equilibrated matrix is no larger.
        const condition = (norm(g) + ridge) / ridge;
        assert.ok(error < condition * 2 ** -24, `error ${error}`);
        // The objective at its minimum in f64, -tr(X' C) with the ridge's share.
        const loss = await quadraticLoss(device, gram, cross, x);
        const gx = product(g, found, n, r);
        const expected = found.reduce((sum, value, at) => sum + value * (gx[at]! - 2 * c[at]!), 0);
        assert.ok(Math.abs(loss - expected) < 1e-6 * Math.abs(expected), `loss ${loss}, ${expected}`);
      }
      assert.is(i, 2);
    }
    assert.is(device.memory.liveBytes, 0);
  });
}

test('quadraticLoss is the squared error of the fit minus |Y|^2, and the ridge path lowers it', async () => {
  using scope = new Scope(device);
  const [tokens, n, r] = [300, 24, 6];
  const [h, y] = [normals(tokens * n, 4), normals(tokens * r, 5)];
  const g = new Float64Array(n * n);
  const c = new Float64Array(n * r);
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) g[i * n + j]! += h[t * n + i]! * h[t * n + j]!;
      for (let j = 0; j < r; j++) c[i * r + j]! += h[t * n + i]! * y[t * r + j]!;
    }
  }
  const gram = scope.own(tensorFrom(device, Float32Array.from(g), [n, n]));
  const cross = scope.own(tensorFrom(device, Float32Array.from(c), [n, r]));
  let before = 0;
  for await (const { x } of solveRidgePath(device, gram, cross, [1e4, 100, 1])) {
    const values = await downloadF32(scope.own(x));
    let errors = 0;
    for (let t = 0; t < tokens; t++) {
      for (let j = 0; j < r; j++) {
        let rest = y[t * r + j]!;
        for (let i = 0; i < n; i++) rest -= h[t * n + i]! * values[i * r + j]!;
        errors += rest * rest;
      }
    }
    const loss = await quadraticLoss(device, gram, cross, x);
    assert.ok(Math.abs(loss + norm(y) ** 2 - errors) < 1e-6 * norm(y) ** 2);
    assert.ok(loss < before);
    before = loss;
  }
});

test('matrices larger than a binding: the same bits', async () => {
  const [n, r] = [600, 330];
  const g = Float32Array.from(withSpectrum(geometric(n, 1e6)));
  const c = normals(n * r, 6);
  const results: { x: Float32Array; loss: number }[] = [];
  for (const bindingLimit of [undefined, 700_000]) {
    await using device = await Device.open(bindingLimit ? { bindingLimit } : {});
    using scope = new Scope(device);
    const gram = scope.own(tensorFrom(device, g, [n, n]));
    const cross = scope.own(tensorFrom(device, c, [n, r]));
    for await (const { x } of solveRidgePath(device, gram, cross, [1e-2])) {
      scope.own(x);
      results.push({ x: await downloadF32(x), loss: await quadraticLoss(device, gram, cross, x) });
    }
  }
  const [whole, pieces] = results;
  assert.equal(pieces!.x, whole!.x);
  assert.ok(Math.abs(pieces!.loss - whole!.loss) < 1e-6 * Math.abs(whole!.loss));
});

test('an indefinite matrix, NaN and ridges of 0 are typed errors; a path left early frees all', async () => {
  const [n, r] = [40, 3];
  const spectrum = geometric(n, 100);
  const first = async (g: Float32Array, c: Float32Array, ridge: number) => {
    using scope = new Scope(device);
    const gram = scope.own(tensorFrom(device, g, [n, n], 'G'));
    const cross = scope.own(tensorFrom(device, c, [n, r]));
    for await (const { x } of solveRidgePath(device, gram, cross, [ridge, 2 * ridge])) {
      x.dispose();
      break;
    }
  };
  const fine = Float32Array.from(withSpectrum(spectrum));
  const indefinite = Float32Array.from(withSpectrum(spectrum.map((value, i) => (i === 5 ? -value : value))));
  const c = normals(n * r, 8);
  await first(fine, c, 0.1);
  assert.match(await rejectsWith(() => first(indefinite, c, 1e-3), 'NOT_POSITIVE_DEFINITE'), "'G' [40,40]");
  await first(indefinite, c, 2);
  for (const at of [3 * n + 3, 3 * n + 9]) {
    await rejectsWith(
      () =>
        first(
          fine.map((value, i) => (i === at ? Number.NaN : value)),
          c,
          0.1,
        ),
      'NOT_FINITE',
    );
  }
  await rejectsWith(
    () =>
      first(
        fine,
        c.map((value, i) => (i === 7 ? Number.POSITIVE_INFINITY : value)),
        0.1,
      ),
    'NOT_FINITE',
  );
  await rejectsWith(() => first(fine, c, 0), 'INVALID_ARGUMENT');
  assert.is(device.memory.liveBytes, 0);
});

test('scaled: a share of every element of the diagonal, also where a feature is always 0', async () => {
  const [n, r] = [40, 6];
  const g = Float32Array.from(withSpectrum(geometric(n, 1e4), i => 10 ** ((i % 5) - 2)));
  const c = normals(n * r, 5);
  // The last feature is 0 in all tokens.
  for (let i = 0; i < n; i++) g[(n - 1) * n + i] = g[i * n + n - 1] = 0;
  c.fill(0, (n - 1) * r);
  using scope = new Scope(device);
  const gram = scope.own(tensorFrom(device, g, [n, n], 'G'));
  const cross = scope.own(tensorFrom(device, c, [n, r]));
  for await (const { ridge, x } of solveRidgePath(device, gram, cross, [1, 0.1], { scaled: true })) {
    const scaled = Float64Array.from(g, (value, at) => (at % (n + 1) === 0 ? (1 + ridge) * value : value));
    // The kernel adds this to the scaled ridge.
    const expected = solveF64(scaled, c, n, r, (1e-6 * trace(g, n)) / n);
    assert.ok(relativeError(await downloadF32(scope.own(x)), expected) < 1e-4);
  }
});

test.run();
