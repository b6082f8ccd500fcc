// Attention on matrix units keeps the error bound of docs/kernels.md, element by element against f64, with massive outliers, a
// small head and masked keys. On devices with matrix units (Mesa's lavapipe 26): emulated ones, which truncate, and their own.
// About 5 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, f32Bits, Scope, tensorFrom } from '../../engine/index.js';
import { bindingsOf } from '../../kernels/attention/commonWgsl.js';
import { attentionCost } from '../../kernels/attention/cost.js';
import {
  attentionTiles,
  fitsAttention,
  MATRIX_MEMORY,
  MATRIX_ROWS,
  matricesWgsl,
} from '../../kernels/attention/matrices.js';
import { attentionF64, causalRanges } from '../../kernels/cases/attention.js';
import { caseTensor } from '../../kernels/cases/data.js';
import { type MatrixUnit, matrixUnit } from '../../kernels/matmul/builtInChoice.js';
import { lineExponents } from '../../kernels/matmul/lineExponents.js';
import { normals } from '../gpu.js';
import { saySkipped } from '../support.js';
import { emulatedMatrices } from './emulatedMatrices.js';

const [heads, kvHeads, headDim, softcap] = [4, 2, 20, 7];
/** Two packed sequences with a window, which end within tiles of rows and keys. */
const ranges = causalRanges([35, 12], 33);
const queries = ranges.length / 2;
const scale = 1 / Math.sqrt(headDim);

/** Normal numbers, with one element of every few rows a thousand times larger or smaller than the others. */
const uneven = (columns: number, seed: number): Float32Array =>
  normals(queries * columns, seed).map((value, i) => value * (i % 97 === 0 ? 1e3 : i % 13 === 0 ? 1e-3 : 1));

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(() => device?.close());

type Operands = readonly [q: Float32Array, k: Float32Array, v: Float32Array];

async function compute([q, k, v]: Operands, unit: MatrixUnit, emulated: boolean, capped: boolean) {
  using scope = new Scope(device);
  const rec = device.recorder;
  const own = async (values: Float32Array) =>
    (await caseTensor(scope, values, [queries, values.length / queries])).tensor;
  const tensors = [await own(q), await own(k), await own(v)] as const;
  const lines = tensors.map(({ size }) => size / headDim) as [number, number, number];
  const exponents = scope.tensor([lines[0] + lines[1] + lines[2]], 'u32');
  const firsts = [0, lines[0], lines[0] + lines[1]] as const;
  const layout = { dtype: 'f32', kContiguous: true, aligned: true } as const;
  for (const [i, tensor] of tensors.entries())
    lineExponents(rec, tensor, layout, [lines[i]!, headDim], exponents, firsts[i]!);
  const out = scope.tensor([queries, heads * headDim]);
  const operations = emulated ? emulatedMatrices(unit, attentionTiles, true) : undefined;
  rec.dispatch({
    program: {
      key: `attention bounds ${JSON.stringify([unit, emulated, capped])}`,
      bindings: [...bindingsOf({ capped, sunk: false }), 'read'],
      wgsl: () => matricesWgsl(headDim, unit, { capped, sunk: false }, operations),
    },
    tensors: [...tensors, scope.own(tensorFrom(device, ranges, [queries, 2])), out, exponents],
    params: [queries, heads, kvHeads, headDim / 4, firsts[2], f32Bits(scale), 0, f32Bits(softcap)],
    grid: [Math.ceil((queries * heads) / kvHeads / MATRIX_ROWS), kvHeads],
  });
  return downloadF32(out);
}

/** The largest error in units of the bound; NaN where a value is no number. */
function largestError(out: Float32Array, [q, k, v]: Operands, capped: boolean, lost: number): number {
  const options = { heads, kvHeads, headDim, scale, ...(capped && { softcap }) };
  const expected = attentionF64(q, k, v, ranges, options);
  const magnitudes = attentionF64(q, k, v.map(Math.abs), ranges, options);
  let worst = 0;
  for (let at = 0; at < out.length; at += headDim) {
    const t = Math.floor(at / (heads * headDim));
    const kvHead = Math.floor((((at / headDim) % heads) * kvHeads) / heads);
    const sum = (x: Float32Array, first: number, value: (i: number) => number) =>
      Array.from({ length: headDim }, (_, i) => Math.abs(x[first + i]!) * value(i)).reduce(
        (a, b) => a + b,
        0,
      );
    const most = (x: Float32Array, first: number) =>
      x.subarray(first, first + headDim).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    let [score, mostV] = [0, 0];
    for (let s = ranges[2 * t]!; s < ranges[2 * t + 1]!; s++) {
      const key = (s * kvHeads + kvHead) * headDim;
      const products = sum(q, at, i => Math.abs(k[key + i]!));
      const small = most(q, at) * sum(k, key, () => 1) + most(k, key) * sum(q, at, () => 1);
      const error = (3 * 2 ** -22 + (3 * headDim + 2) * lost) * products + 2 ** -38 * small;
      // exp and the rounding of its argument, which is at most twice the largest score.
      score = Math.max(score, scale * (error + 2 ** -21 * products));
      mostV = Math.max(mostV, most(v, key));
    }
    const keys = ranges[2 * t + 1]! - ranges[2 * t]!;
    const relative = Math.expm1(2 * score) + 4 * 2 ** -22 + (3 * 32 + keys) * lost;
    for (let i = at; i < at + headDim; i++) {
      const bound = relative * magnitudes[i]! + 2 ** -38 * keys * mostV;
      worst = Math.max(worst, Math.abs(out[i]! - expected[i]!) / bound);
    }
  }
  return worst;
}

const operands: Operands = [
  uneven(heads * headDim, 1),
  uneven(kvHeads * headDim, 2),
  uneven(kvHeads * headDim, 3),
];

test('attention by truncating matrices keeps the bound', async () => {
  if (device.limits.maxComputeWorkgroupStorageSize < MATRIX_MEMORY)
    return saySkipped('devices without matrix units have less workgroup memory');
  const unit = { m: 16, n: 16, k: 16, subgroup: 32, sized: false };
  const out = await compute(operands, unit, true, true);
  const error = largestError(out, operands, true, 2 ** -22);
  assert.ok(error <= 1, `${error} of the bound`);
});

test("attention by the device's own matrix units keeps the bound", async () => {
  const unit = matrixUnit(device.info, device.features);
  if (!unit) return saySkipped('the adapter has no subgroup matrices of f16 with sums in f32');
  for (const capped of [false, true]) {
    const error = largestError(await compute(operands, unit, false, capped), operands, capped, 2 ** -23);
    assert.ok(error <= 1, `${error} of the bound`);
  }
});

test('units of NVIDIA, AMD, Apple and lavapipe fit the tile, and others are left out', () => {
  const fits = (subgroup: number, m: number, n: number, k: number) =>
    fitsAttention({ m, n, k, subgroup, sized: false });
  assert.ok(fits(32, 16, 16, 16) && fits(64, 16, 16, 16) && fits(32, 16, 8, 16));
  assert.ok(fits(32, 8, 8, 8) && fits(8, 8, 8, 8));
  assert.not.ok(fits(8, 16, 16, 16));
});

test('prefill of 8B at 8k: what the workgroups of each variant move', () => {
  const shape = { queries: 8192, keys: 8192, heads: 32, kvHeads: 8, headDim: 128 };
  const unit = { m: 16, n: 16, k: 16, subgroup: 32, sized: false };
  const tiled = attentionCost({ name: 'tiled', program: 'tiled' }, shape);
  const matrices = attentionCost({ name: 'matrices', program: 'matrices', unit }, shape);
  const gigabytes = ({ bytes }: { bytes: number }) => bytes / 1e9;
  console.log(`GFLOP ${tiled.flops / 1e9}, GB: tiled ${gigabytes(tiled)}, matrices ${gigabytes(matrices)}`);
  // 4,096 tiles of 64 rows see 4,096 keys on average: q, k and v of 128 f32 once for each 64 or 32 keys, and out.
  const line = 4 * 128;
  assert.is(tiled.bytes, line * (4096 * (2 * 4096 + 64 * 64) + 8192 * 32));
  assert.is(matrices.bytes, line * (4096 * (2 * 4096 + 64 * 128) + 8192 * 32));
});

test.run();
