/** Fits behind a norm against the same rounds in f64 on the host. Costs 2 s. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, noJournal, Scope, tensorFrom } from '../../engine/index.js';
import type { Model } from '../../model/index.js';
import type { FitPass } from '../../replaceme/fits/fitPass.js';
import { fitThroughNorm, NORM_ROUNDS } from '../../replaceme/fits/fitThroughNorm.js';
import { leastSquaresStatistics } from '../../replaceme/fits/leastSquares.js';
import { fitTransformRounds } from '../../replaceme/fits/leastSquaresThroughNorm.js';
import type { ProjectionFit, ProjectionWeights } from '../../replaceme/fits/projectionFit.js';
import { normals, relativeError } from '../gpu.js';

const [tokens, inputs, outputs, eps, ridge] = [160, 20, 12, 1e-6, 0.05];
const device = await Device.open();
test.after(() => device.close());

type Rows = Float64Array[];
const matrix = (rows: number, columns: number, seed: number, factor = 1): Rows => {
  const values = normals(rows * columns, seed);
  return Array.from({ length: rows }, (_, r) =>
    Float64Array.from({ length: columns }, (_, c) => Math.fround(factor * values[r * columns + c]!)),
  );
};
const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
const flat = (rows: Rows) => Float32Array.from(rows.flatMap(row => [...row]));

/** W h of a token, and what the norm divides it by. */
function normed(weight: Rows, h: Float64Array) {
  const m = Float64Array.from(weight, row => dot(row, h));
  return { m, r: Math.sqrt(dot(m, m) / outputs + eps) };
}

interface Data {
  readonly features: Rows;
  /** What the branch should add. */
  readonly targets: Rows;
  readonly weights: Float64Array;
}

/** Targets of another projection and gain behind a norm, with some noise. */
function data(seed: number, noise: number): Data {
  const [weight, gain] = [matrix(outputs, inputs, 1), matrix(1, outputs, 2, 0.3)[0]!];
  const features = matrix(tokens, inputs, seed);
  const errors = matrix(tokens, outputs, seed + 1, noise);
  const targets = features.map((h, t) => {
    const { m, r } = normed(weight, h);
    return m.map((value, c) => Math.fround((2 + gain[c]!) * (value / r) + errors[t]![c]!));
  });
  return { features, targets, weights: Float64Array.from({ length: tokens }, (_, t) => 0.5 + (t % 3)) };
}

/** sum of w |D - g * (W h) / r|² */
function loss(halves: readonly Data[], weight: Rows, gain: Float64Array): number {
  let sum = 0;
  for (const { features, targets, weights } of halves) {
    for (const [t, h] of features.entries()) {
      const { m, r } = normed(weight, h);
      for (const [c, d] of targets[t]!.entries()) sum += weights[t]! * (d - (gain[c]! * m[c]!) / r) ** 2;
    }
  }
  return sum;
}

/** Solves A x = b by Gauss-Jordan. */
function solve(a: Rows, b: Float64Array): Float64Array {
  const rows = a.map((row, i) => Float64Array.from([...row, b[i]!]));
  for (const [i, pivot] of rows.entries()) {
    for (const [j, row] of rows.entries()) {
      if (j === i) continue;
      const factor = row[i]! / pivot[i]!;
      for (let k = i; k <= rows.length; k++) row[k]! -= factor * pivot[k]!;
    }
  }
  return Float64Array.from(rows, (row, i) => row[rows.length]! / row[i]!);
}

function gainsOnHost(halves: readonly Data[], weight: Rows, gain: Float64Array): Float64Array {
  const sums = (chosen: readonly Data[]) => {
    const [cross, squares] = [new Float64Array(outputs), new Float64Array(outputs)];
    for (const { features, targets, weights } of chosen) {
      for (const [t, h] of features.entries()) {
        const { m, r } = normed(weight, h);
        for (let c = 0; c < outputs; c++) {
          cross[c]! += (weights[t]! * m[c]! * targets[t]![c]!) / r;
          squares[c]! += weights[t]! * (m[c]! / r) ** 2;
        }
      }
    }
    return { cross, squares };
  };
  const fitted = (chosen: readonly Data[], share: number) => {
    const { cross, squares } = sums(chosen);
    return gain.map(
      (present, c) => (cross[c]! + share * squares[c]! * present) / (squares[c]! * (1 + share)),
    );
  };
  const shares = [1, 0.1, 0.01];
  const losses = shares.map(share => loss([halves[1]!], weight, fitted([halves[0]!], share)));
  const least = Math.min(...losses);
  if (least >= loss([halves[1]!], weight, gain)) return gain;
  return fitted(halves, shares[losses.indexOf(least)]!);
}

function roundOnHost(halves: readonly Data[], weight: Rows, present: Float64Array) {
  const gain = gainsOnHost(halves, weight, present);
  const gram = Array.from({ length: inputs }, () => new Float64Array(inputs));
  const cross = Array.from({ length: outputs }, () => new Float64Array(inputs));
  for (const { features, targets, weights } of halves) {
    for (const [t, h] of features.entries()) {
      const { m, r } = normed(weight, h);
      for (let i = 0; i < inputs; i++) {
        const x = (weights[t]! * h[i]!) / r;
        for (let j = 0; j < inputs; j++) gram[i]![j]! += (x * h[j]!) / r;
        for (let c = 0; c < outputs; c++) cross[c]![i]! += x * (targets[t]![c]! / gain[c]! - m[c]! / r);
      }
    }
  }
  const mean = gram.reduce((sum, row, i) => sum + row[i]!, 0) / inputs;
  for (const [i, row] of gram.entries()) row[i]! += ridge * mean;
  return { gain, weight: weight.map((row, c) => row.map((value, i) => value + solve(gram, cross[c]!)[i]!)) };
}

async function fitOnDevice(halves: readonly Data[], weight: Rows, gain: Float64Array, offset: number) {
  using scope = new Scope(device);
  const down = scope.own(tensorFrom(device, flat(weight), [outputs, inputs]));
  const stored = scope.own(
    tensorFrom(
      device,
      Float32Array.from(gain, value => value - offset),
    ),
  );
  const arch = {
    norm: { kind: 'rms', eps, offset },
    heads: 1,
    headDim: 1,
    intermediate: inputs,
    hidden: outputs,
  };
  const layers = [{ down, mlpOutNorm: stored }];
  const model = { device, arch, weights: { layers }, loadLayer: async () => {} } as unknown as Model;
  const weights: ProjectionWeights = {};
  let rounds = 0;
  const fit: ProjectionFit = {
    ...{ model, layer: 0, attentionStep: 0, precision: 'f32', ridge, journal: noJournal, weights },
    async sumsOf(_, statistics) {
      rounds++;
      const values = await downloadF32(weights.down ?? down);
      const present = Array.from({ length: outputs }, (_, c) =>
        Float64Array.from(values.subarray(c * inputs, (c + 1) * inputs)),
      );
      for (const [half, { features, targets, weights }] of halves.entries()) {
        using inner = new Scope(device);
        const divided = features.map(h => h.map(value => value / normed(present, h).r));
        const tensor = (rows: Rows) =>
          inner.own(tensorFrom(device, flat(rows), [rows.length, rows[0]!.length]));
        const roots = inner.own(tensorFrom(device, Float32Array.from(weights, Math.sqrt)));
        await statistics.add(half as 0 | 1, tensor(divided), tensor(targets), roots);
      }
      return true;
    },
  };
  const fitted = (await fitThroughNorm(fit, 'down', 1, ''))!;
  const found = scope.own(fitted.solved!.weights.down!);
  const foundGain = scope.own(fitted.solved!.weights.mlpOutNorm!);
  return {
    ...{ rounds, weight: await downloadF32(found) },
    gain: (await downloadF32(foundGain)).map(value => value + offset),
  };
}

for (const offset of [0, 1]) {
  test(`rounds of projection and gain, stored less ${offset}`, async () => {
    const halves = [data(10, 0.2), data(20, 0.2)];
    const changes = matrix(outputs, inputs, 5);
    let weight = matrix(outputs, inputs, 1).map((row, c) =>
      row.map((value, i) => Math.fround(value + changes[c]![i]!)),
    );
    let gain: Float64Array = Float64Array.from({ length: outputs }, (_, c) => 1 + c / 16);
    const found = await fitOnDevice(halves, weight, gain, offset);
    const before = loss(halves, weight, gain);
    for (let round = 0; round < NORM_ROUNDS; round++) ({ weight, gain } = roundOnHost(halves, weight, gain));
    assert.is(found.rounds, NORM_ROUNDS);
    assert.ok(relativeError(found.weight, flat(weight)) < 1e-4, 'projection');
    assert.ok(relativeError(found.gain, gain) < 1e-4, 'gain');
    assert.ok(loss(halves, weight, gain) < 0.05 * before, 'the rounds help');
  });
}

/** T of ReplaceMe's least squares before a norm by the same rounds in f64: rows are M, D what the branch should add. */
function transformOnHost({ features, targets }: Data, gain: Float64Array): Rows {
  const size = gain.length;
  const columns = Array.from({ length: size }, (_, c) =>
    Float64Array.from({ length: size }, (_, i) => +(i === c)),
  );
  for (let round = 0; round < NORM_ROUNDS; round++) {
    const gram = columns.map(() => new Float64Array(size));
    const cross = columns.map(() => new Float64Array(size));
    for (const [t, h] of features.entries()) {
      const { r } = normed(columns, h);
      for (let i = 0; i < size; i++) {
        for (let j = 0; j < size; j++) gram[i]![j]! += (h[i]! * h[j]!) / r ** 2;
        for (let c = 0; c < size; c++) cross[c]![i]! += (h[i]! * targets[t]![c]!) / r;
      }
    }
    for (let c = 0; c < size; c++) columns[c] = solve(gram, cross[c]!).map(value => value / gain[c]!);
  }
  return columns;
}

test('rounds of a linear map before a norm', async () => {
  const size = outputs;
  const gain = Float64Array.from({ length: size }, (_, c) => 1 + c / 16);
  const [exact, noise] = [matrix(size, size, 1, 0.2), matrix(tokens, size, 4, 0.05)];
  for (let i = 0; i < size; i++) exact[i]![i]! += 1;
  const features = matrix(tokens, size, 3);
  const targets = features.map((h, t) => {
    const { m, r } = normed(exact, h);
    return m.map((value, c) => Math.fround((gain[c]! * value) / r + noise[t]![c]!));
  });
  using scope = new Scope(device);
  const tensor = (rows: Rows) => scope.own(tensorFrom(device, flat(rows), [rows.length, rows[0]!.length]));
  const mlpOutNorm = scope.own(tensorFrom(device, Float32Array.from(gain)));
  const arch = { norm: { kind: 'rms', eps, offset: 0 }, hidden: size };
  const model = { device, arch, weights: { layers: [{ mlpOutNorm }] }, loadLayer: async () => {} };
  const target = tensor(targets);
  const found = await fitTransformRounds(model as unknown as Model, 0, 0, async (_, transform) => {
    const values = await downloadF32(transform);
    const columns = Array.from({ length: size }, (_, c) =>
      Float64Array.from({ length: size }, (_, i) => values[i * size + c]!),
    );
    const mlpOutput = tensor(features.map(h => h.map(value => value / normed(columns, h).r)));
    const tensors = { mlpOutput, layerOutput: mlpOutput, target };
    const pass = {
      ...{ model, inputs: { tokens, options: {} } },
      forEach: (visit: (tensors: unknown, batch: unknown) => Promise<void>) => visit(tensors, { weight: 1 }),
    };
    return await leastSquaresStatistics(pass as unknown as FitPass, transform);
  });
  using transform = found!.transform;
  const expected = transformOnHost({ features, targets, weights: new Float64Array() }, gain);
  const rows = expected.map((_, i) => Float64Array.from(expected, column => column[i]!));
  assert.ok(relativeError(await downloadF32(transform), flat(rows)) < 1e-5);
  assert.is(found!.rounds, NORM_ROUNDS);
  assert.ok(found!.relativeResidual < 0.2 * found!.plainRelativeResidual);
});

test.run();
