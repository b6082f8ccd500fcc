import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, tensorFrom } from '../../engine/index.js';
import { addTransposed } from '../../kernels/elementwise/addTransposed.js';
import { RIDGES, RidgeStatistics } from '../../replaceme/fits/ridgeStatistics.js';
import { normals, rejectsWith, relativeError } from '../gpu.js';

const [tokens, inputs, outputs] = [96, 128, 24];

interface Half {
  features: Float32Array;
  residual: Float32Array;
  weights: Float32Array;
}

/** Features with few directions, targets that depend on them, and noise. */
function half(seed: number): Half {
  const basis = normals(8 * inputs, 1);
  const map = normals(inputs * outputs, 2);
  const codes = normals(tokens * 8, seed);
  const noise = normals(tokens * inputs, seed + 1);
  const features = Float32Array.from({ length: tokens * inputs }, (_, at) => {
    const [t, j] = [Math.floor(at / inputs), at % inputs];
    let sum = 0.3 * noise[at]!;
    for (let k = 0; k < 8; k++) sum += codes[t * 8 + k]! * basis[k * inputs + j]!;
    return sum;
  });
  const errors = normals(tokens * outputs, seed + 2);
  const residual = Float32Array.from({ length: tokens * outputs }, (_, at) => {
    const [t, j] = [Math.floor(at / outputs), at % outputs];
    let sum = 0.3 * errors[at]!;
    for (let k = 0; k < inputs; k++) sum += (features[t * inputs + k]! * map[k * outputs + j]!) / inputs;
    return sum;
  });
  const weights = Float32Array.from({ length: tokens }, (_, t) => 0.25 + ((t * 7) % 5));
  return { features, residual, weights };
}

const halves = [half(10), half(20)];

interface Sums {
  g: Float64Array;
  c: Float64Array;
}

function sumsOf({ features, residual, weights }: Half): Sums {
  const g = new Float64Array(inputs * inputs);
  const c = new Float64Array(inputs * outputs);
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < inputs; i++) {
      const x = weights[t]! * features[t * inputs + i]!;
      for (let j = 0; j < inputs; j++) g[i * inputs + j]! += x * features[t * inputs + j]!;
      for (let j = 0; j < outputs; j++) c[i * outputs + j]! += x * residual[t * outputs + j]!;
    }
  }
  return { g, c };
}

const add = (a: Sums, b: Sums): Sums => ({
  g: a.g.map((value, i) => value + b.g[i]!),
  c: a.c.map((value, i) => value + b.c[i]!),
});

const traceOf = ({ g }: Sums): number => {
  let trace = 0;
  for (let i = 0; i < inputs; i++) trace += g[i * inputs + i]!;
  return trace;
};

/** (G + D)⁻¹ C by Gauss-Jordan in f64, D = ridge mean(diag G) I or ridge diag G. */
function solveF64({ g, c }: Sums, ridge: number, scaled: boolean): Float64Array {
  const a = Float64Array.from(g);
  const x = Float64Array.from(c);
  const trace = traceOf({ g, c });
  for (let i = 0; i < inputs; i++)
    a[i * inputs + i]! += ridge * (scaled ? g[i * inputs + i]! : trace / inputs);
  for (let i = 0; i < inputs; i++) {
    for (let row = 0; row < inputs; row++) {
      if (row === i) continue;
      const factor = a[row * inputs + i]! / a[i * inputs + i]!;
      for (let k = i; k < inputs; k++) a[row * inputs + k]! -= factor * a[i * inputs + k]!;
      for (let k = 0; k < outputs; k++) x[row * outputs + k]! -= factor * x[i * outputs + k]!;
    }
  }
  return x.map((value, at) => value / a[Math.floor(at / outputs) * (inputs + 1)]!);
}

/** Weighted |F Delta - R|² / |R|² over a half, token by token. */
function lossOf({ features, residual, weights }: Half, delta: ArrayLike<number>): number {
  let [loss, all] = [0, 0];
  for (let t = 0; t < tokens; t++) {
    for (let j = 0; j < outputs; j++) {
      const target = residual[t * outputs + j]!;
      let found = 0;
      for (let i = 0; i < inputs; i++) found += features[t * inputs + i]! * delta[i * outputs + j]!;
      loss += weights[t]! * (found - target) ** 2;
      all += weights[t]! * target ** 2;
    }
  }
  return loss / all;
}

const rootsOf = (scope: Scope, weights: Float32Array) =>
  scope.own(tensorFrom(scope.device, weights.map(Math.sqrt)));

async function statisticsOf(device: Device, scope: Scope, which: readonly (0 | 1)[]) {
  const statistics = new RidgeStatistics(device, inputs, outputs);
  for (const h of which) {
    const { features, residual, weights } = halves[h]!;
    const x = scope.own(tensorFrom(device, features, [tokens, inputs]));
    const y = scope.own(tensorFrom(device, residual, [tokens, outputs]));
    await statistics.add(h, x, y, rootsOf(scope, weights));
  }
  return statistics;
}

// The Gram matrix has 64 KiB, the features 48.
for (const bindingLimit of [undefined, 50_000]) {
  for (const scaled of [false, true]) {
    const name = `${scaled ? 'scaled ridge' : 'ridge'}${bindingLimit ? ', sums larger than a binding' : ''}`;
    test(`${name}: the one that does best on the other half, then both halves with the same one, as in f64`, async () => {
      await using device = await Device.open(bindingLimit ? { bindingLimit } : {});
      using scope = new Scope(device);
      using statistics = await statisticsOf(device, scope, [0, 1]);
      const sums = halves.map(sumsOf) as [Sums, Sums];
      const losses = RIDGES.map(ridge => lossOf(halves[1]!, solveF64(sums[0], ridge, scaled)));
      const best = losses.indexOf(Math.min(...losses));
      assert.ok(losses[best]! < 1, 'the case is one in which some ridge helps');
      const { delta, ridge, heldOut } = (await statistics.solve(undefined, { scaled }))!;
      assert.is(ridge, RIDGES[best]);
      assert.ok(Math.abs(heldOut! - losses[best]!) < 1e-4, `held-out loss ${heldOut}, ${losses[best]}`);
      const [fitted, all] = [traceOf(sums[0]), traceOf(add(sums[0], sums[1]))];
      const expected = solveF64(add(sums[0], sums[1]), (ridge * fitted) / all, scaled);
      assert.ok(relativeError(await downloadF32(scope.own(delta)), expected) < 1e-4);
    });
  }
}

test('where no ridge helps on the other half nothing is changed', async () => {
  await using device = await Device.open();
  using scope = new Scope(device);
  using statistics = new RidgeStatistics(device, inputs, outputs);
  for (const h of [0, 1] as const) {
    const { features, residual, weights } = halves[h]!;
    const x = scope.own(tensorFrom(device, features, [tokens, inputs]));
    // What is right for one half is wrong for the other.
    const y = scope.own(
      tensorFrom(
        device,
        residual.map(value => (h ? -value : value)),
        [tokens, outputs],
      ),
    );
    await statistics.add(h, x, y, rootsOf(scope, weights));
  }
  assert.is(await statistics.solve(), undefined);
});

test('features that are zero everywhere change nothing', async () => {
  await using device = await Device.open();
  using scope = new Scope(device);
  using statistics = new RidgeStatistics(device, inputs, outputs);
  for (const h of [0, 1] as const) {
    const { residual, weights } = halves[h]!;
    const x = scope.own(tensorFrom(device, new Float32Array(tokens * inputs), [tokens, inputs]));
    await statistics.add(
      h,
      x,
      scope.own(tensorFrom(device, residual, [tokens, outputs])),
      rootsOf(scope, weights),
    );
  }
  assert.is(await statistics.solve(), undefined);
  assert.is(await statistics.solve(0.1), undefined);
});

test('one half without tokens cannot choose', async () => {
  await using device = await Device.open();
  using scope = new Scope(device);
  using statistics = await statisticsOf(device, scope, [0]);
  await rejectsWith(() => statistics.solve(), 'INVALID_ARGUMENT');
  const { delta } = (await statistics.solve(0.1))!;
  const expected = solveF64(sumsOf(halves[0]!), 0.1, false);
  assert.ok(relativeError(await downloadF32(scope.own(delta)), expected) < 1e-4);
});

test('addTransposed: also larger than a binding', async () => {
  const [n, m] = [130, 101];
  const [x, y] = [normals(n * m, 3), normals(m * n, 4)];
  const expected = y.map((value, at) => value + 0.5 * x[(at % n) * m + Math.floor(at / n)]!);
  for (const bindingLimit of [undefined, 40_000]) {
    await using device = await Device.open(bindingLimit ? { bindingLimit } : {});
    using scope = new Scope(device);
    const target = scope.own(tensorFrom(device, y, [m, n]));
    addTransposed(device.recorder, scope.own(tensorFrom(device, x, [n, m])), 0.5, target);
    assert.ok(relativeError(await downloadF32(target), expected) < 1e-6);
  }
});

test.run();
