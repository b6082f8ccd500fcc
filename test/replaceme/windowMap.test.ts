import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32 } from '../../engine/index.js';
import { Batch } from '../../model/transformer/batch.js';
import { Model } from '../../model/transformer/model.js';
import { forward } from '../../model/transformer/transformer.js';
import { HiddenStates } from '../../replaceme/activations/hiddenStates.js';
import type { CalibrationBatch } from '../../replaceme/calibration/calibrationBatch.js';
import { type WindowMap, windowDistances, windowMap } from '../../replaceme/index.js';
import { normals, rejectsWith } from '../gpu.js';
import { plainBatches, workplace } from './workplace.js';

const device = await Device.open();
const folder = await workplace();
const model = await Model.load(device, folder.model);
const sequences = Array.from({ length: 8 }, (_, s) =>
  Array.from(normals(61, 40 + s), value => Math.floor(Math.abs(value) * 1e4) % 256),
);
const batches = plainBatches(sequences, 122).map((batch, b) => ({ ...batch, weight: b < 2 ? 1.5 : 0.5 }));

type Rows = readonly number[][];

const rowsOf = (values: Float32Array, columns: number): Rows =>
  Array.from({ length: values.length / columns }, (_, t) =>
    Array.from(values.subarray(t * columns, (t + 1) * columns)),
  );

/** L and M of every layer for all tokens of some batches, and the tokens' weights. */
async function statesOf(of: readonly CalibrationBatch[]) {
  const { hidden, layers } = model.arch;
  const outputs: number[][][] = Array.from({ length: layers }, () => []);
  const mlp: number[][][] = Array.from({ length: layers }, () => []);
  const factors: number[] = [];
  for (const batch of of) {
    using opened = new Batch(device, batch.sequences);
    const copies: [number[][], Promise<Float32Array>][] = [];
    forward(model, opened, {
      tap: (layer, { layerOutput, mlpOutput }) => {
        copies.push([outputs[layer]!, downloadF32(layerOutput)], [mlp[layer]!, downloadF32(mlpOutput)]);
      },
    }).dispose();
    for (const [list, values] of copies) list.push(...rowsOf(await values, hidden));
    factors.push(...new Array<number>(opened.tokens).fill(batch.weight));
  }
  const norm = (row: readonly number[]) => Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
  const weights = factors.map((factor, t) => factor / Math.max(...outputs.map(layer => norm(layer[t]!))));
  return { outputs, mlp, weights };
}

/** Aᵀ diag(w) B */
function weightedProduct(a: Rows, b: Rows, w: readonly number[]): number[][] {
  const out = a[0]!.map(() => b[0]!.map(() => 0));
  for (const [t, row] of a.entries()) {
    for (const [i, x] of row.entries()) {
      for (const [j, y] of b[t]!.entries()) out[i]![j]! += w[t]! * x * y;
    }
  }
  return out;
}

/** (A + shift I) X = B by elimination. */
function solve(a: Rows, shift: number, b: Rows): number[][] {
  const rows = a.map((row, i) => [...row.map((x, j) => (i === j ? x + shift : x)), ...b[i]!]);
  const n = rows.length;
  for (let k = 0; k < n; k++) {
    for (let i = 0; i < n; i++) {
      if (i === k) continue;
      const factor = rows[i]![k]! / rows[k]![k]!;
      if (factor !== 0) rows[i] = rows[i]!.map((x, j) => x - factor * rows[k]![j]!);
    }
  }
  return rows.map((row, i) => row.slice(n).map(x => x / row[i]!));
}

const difference = (a: Rows, b: Rows) => a.map((row, t) => row.map((x, j) => x - b[t]![j]!));

const squares = (a: Rows, w: readonly number[]) =>
  a.reduce((sum, row, t) => sum + w[t]! * row.reduce((s, x) => s + x * x, 0), 0);

async function hostMap() {
  const fit = await statesOf(batches.filter(({ half }) => half === 0));
  const held = await statesOf(batches.filter(({ half }) => half === 1));
  return (i: number, n: number) => {
    const j = i + n;
    const gram = weightedProduct(fit.mlp[i]!, fit.mlp[i]!, fit.weights);
    const cross = weightedProduct(fit.mlp[i]!, difference(fit.outputs[j]!, fit.outputs[i]!), fit.weights);
    const mean = gram.reduce((sum, row, k) => sum + row[k]!, 0) / gram.length;
    const change = difference(held.outputs[j]!, held.outputs[i]!);
    const losses = [1, 0.1, 0.01].map(share => {
      const delta = solve(gram, share * mean, cross);
      const mapped = held.mlp[i]!.map(row =>
        change[0]!.map((_, c) => row.reduce((s, x, k) => s + x * delta[k]![c]!, 0)),
      );
      return squares(difference(mapped, change), held.weights);
    });
    const plain = squares(change, held.weights);
    const least = Math.min(plain, ...losses);
    return { residual: least / squares(held.outputs[j]!, held.weights), unexplained: least / plain };
  };
}

const close = (actual: number, expected: number, tolerance: number, label: string) =>
  assert.ok(
    Math.abs(actual - expected) <= tolerance * Math.abs(expected),
    `${label}: ${actual}, not ${expected}`,
  );

let map: WindowMap;

test('residuals of all windows are those of an f64 host; distances are those of windowDistances', async () => {
  map = await windowMap(model, batches);
  const { layers } = model.arch;
  assert.is(map.tokens, 8 * 61);
  assert.is(map.windows.length, (layers * (layers - 1)) / 2);
  const counts = [1, 2, 3, 4, 5];
  const distances = await windowDistances(model, batches, counts);
  const expected = await hostMap();
  for (const { layer, count, cosine, residual, unexplained } of map.windows) {
    const name = `(${layer}, ${count})`;
    close(cosine, distances[count - 1]![layer]!, 1e-6, `${name} distance`);
    const host = expected(layer, count);
    close(residual, host.residual, 1e-4, `${name} residual`);
    close(unexplained, host.unexplained, 1e-4, `${name} unexplained`);
  }
  const order = map.windows.map(({ layer, count }) => count * 100 + layer);
  assert.equal(
    order,
    [...order].sort((a, b) => a - b),
  );
});

test('layer by layer, every layer uploaded once in two walks: the same but for the rounding of sums', async () => {
  for (const place of ['device', 'host'] as const) {
    await using streamed = await Model.load(device, folder.model, { offload: { prefetch: true } });
    const steps: number[] = [];
    const found = await windowMap(streamed, batches, {
      placement: { place, dtype: 'f32', keepsInner: false },
      onProgress: ({ done, total }) => steps.push(done / total),
    });
    assert.is(found.windows.length, map.windows.length);
    for (const [w, { layer, count, cosine, residual, unexplained }] of found.windows.entries()) {
      const expected = map.windows[w]!;
      const name = `${place}: (${layer}, ${count})`;
      assert.equal([layer, count, cosine], [expected.layer, expected.count, expected.cosine]);
      close(residual, expected.residual, 1e-5, `${name} residual`);
      close(unexplained, expected.unexplained, 1e-5, `${name} unexplained`);
    }
    // The last layer never stays before a window.
    assert.is(streamed.layerUploads, 2 * model.arch.layers - 1);
    assert.is(steps.length, 2 * model.arch.layers - 1);
    assert.is(steps.at(-1), 1);
  }
});

test('layer by layer, windows up to a length: those of the whole map', async () => {
  await using streamed = await Model.load(device, folder.model, { offload: { prefetch: false } });
  const all = await windowMap(streamed, batches);
  const live = device.memory.liveBytes;
  const short = await windowMap(streamed, batches, { longest: 2 });
  assert.equal(
    short.windows,
    all.windows.filter(({ count }) => count <= 2),
  );
  assert.ok(device.memory.liveBytes <= live, 'nothing is left on the device');
});

test('several walks with less room, and windows up to a length, give the same', async () => {
  const pieces = await windowMap(model, batches, { room: 1, longest: 3 });
  assert.equal(
    pieces.windows,
    map.windows.filter(({ count }) => count <= 3),
  );
});

test('random projections give the residuals to the accuracy of a mean of 64 squares', async () => {
  const sketched = await windowMap(model, batches, { projections: 1 });
  const errors = sketched.windows.map(({ unexplained }, w) => unexplained / map.windows[w]!.unexplained - 1);
  // The standard deviation of each is below sqrt(2 / 64), since residual and change are projected alike.
  const spread = Math.sqrt(errors.reduce((sum, error) => sum + error * error, 0) / errors.length);
  assert.ok(spread < Math.sqrt(2 / 64), `${spread}`);
  assert.ok(spread > 0);
  for (const [w, { cosine }] of sketched.windows.entries()) assert.is(cosine, map.windows[w]!.cosine);
});

test('hidden states are kept, and are those of the model', async () => {
  using states = new HiddenStates(device, model.arch);
  await windowMap(model, batches, { states, longest: 1 });
  using opened = new Batch(device, batches[1]!.sequences);
  using expected = forward(model, opened, { to: 4 });
  const kept = states.peek(batches[1]!.sequences, 3)!;
  assert.equal(await downloadF32(kept), await downloadF32(expected));
});

test('without a second half nothing can be held out', async () => {
  const message = await rejectsWith(() => windowMap(model, batches.slice(0, 1)), 'DATA_INVALID');
  assert.match(message, /nothing is held out/);
});

test.after(async () => {
  model.dispose();
  folder[Symbol.dispose]();
  await device.close();
});

test.run();
