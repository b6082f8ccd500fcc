import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, type DType, downloadF32, Scope, tensorFrom } from '../../engine/index.js';
import { attention } from '../../kernels/attention/attention.js';
import { rope } from '../../kernels/embedding/rope.js';
import { embedding } from '../../kernels/layout/gatherRows.js';
import { add, addInto, axpy, softcap } from '../../kernels/map/named.js';
import { gatedMatmul } from '../../kernels/matmul/gatedMatmul.js';
import { layerNorm } from '../../kernels/norms/layerNorm.js';
import { rmsNorm } from '../../kernels/norms/rmsNorm.js';
import { argmax } from '../../kernels/reductions/argmax.js';
import { cosineDistance } from '../../kernels/reductions/cosineDistance.js';
import { countNonFinite } from '../../kernels/reductions/countNonFinite.js';
import { rowNorms } from '../../kernels/reductions/rowNorms.js';
import { rowTiles } from '../../kernels/shared/rowTiles.js';
import { compareDistributions } from '../../kernels/vocabulary/compareDistributions.js';
import { logLikelihood } from '../../kernels/vocabulary/logLikelihood.js';
import { normals, rejectsWith } from '../gpu.js';

let device: Device;
let scope: Scope;
test.before(async () => {
  device = await Device.open();
  scope = new Scope(device);
});
test.after(async () => {
  scope.dispose();
  await device.close();
});

const t = (shape: number[], dtype: DType = 'f32') => scope.tensor(shape, dtype);

test('tensors that do not fit are INVALID_ARGUMENT naming the tensor', async () => {
  const rec = device.recorder;
  const x = t([4, 8]);
  const ids = t([4], 'u32');
  const options = { heads: 2, kvHeads: 1, headDim: 4, scale: 1 };
  const ranges = t([4, 2], 'u32');
  const store = { v: t([4, 4]), keys: t([5, 4]), values: t([5, 4]), rows: t([3], 'u32') };
  const results = { nllA: t([4]), nllB: t([4]), kl: t([4]), topA: t([4], 'u32'), topB: t([4], 'u32') };
  const model = { hidden: x, head: t([9, 8]) };
  const wrong: [string, () => void][] = [
    ["'table'", () => embedding(rec, t([8]), ids, x)],
    ["'ids'", () => embedding(rec, x, t([4]), x)],
    ["'out'", () => embedding(rec, x, ids, t([4, 7]))],
    ["'gain'", () => rmsNorm(rec, x, t([9]), t([4, 8]), 1e-5)],
    ["'weight'", () => layerNorm(rec, x, t([9]), undefined, t([4, 8]), 1e-5)],
    ["'bias'", () => layerNorm(rec, x, t([8]), t([7]), t([4, 8]), 1e-5)],
    ['softcap: this is a float', () => softcap(rec, ids, 30)],
    ["'k'", () => rope(rec, x, t([3, 8]), ids, t([9, 4]), { headDim: 4 })],
    ["'positions'", () => rope(rec, x, t([4, 4]), t([3], 'u32'), t([9, 4]), { headDim: 4 })],
    ['heads have 3', () => rope(rec, x, t([4, 4]), ids, t([9, 4]), { headDim: 3 })],
    ['rotates 4', () => rope(rec, x, t([4, 4]), ids, t([9, 4]), { headDim: 2 })],
    [
      "'values'",
      () =>
        rope(rec, x, t([4, 4]), ids, t([9, 4]), {
          headDim: 4,
          store: { ...store, rows: ids, keys: t([6, 4]) },
        }),
    ],
    ["'rows'", () => rope(rec, x, t([4, 4]), ids, t([9, 4]), { headDim: 4, store })],
    ["'k'", () => attention(rec, x, t([4, 8], 'bf16'), t([4, 4]), ranges, t([4, 8]), options)],
    ["'v'", () => attention(rec, x, t([4, 4]), t([5, 4]), ranges, t([4, 8]), options)],
    ["'ranges'", () => attention(rec, x, t([4, 4]), t([4, 4]), t([4, 2]), t([4, 8]), options)],
    [
      'variant',
      () =>
        attention(rec, x, t([4, 4]), t([4, 4]), ranges, t([4, 8]), {
          ...options,
          variant: { name: 'other', program: 'tiled' },
        }),
    ],
    ['capped to 0', () => attention(rec, x, x, x, ranges, x, { ...options, softcap: 0 })],
    ['headDim is 6', () => attention(rec, x, x, x, ranges, x, { ...options, headDim: 6 })],
    ['headDim is 260', () => attention(rec, x, x, x, ranges, x, { ...options, headDim: 260 })],
    ['3 heads', () => attention(rec, x, x, x, ranges, x, { ...options, heads: 3, kvHeads: 2 })],
    ['gate', () => gatedMatmul(rec, x, t([8, 4]), t([8, 8]), t([4, 8]), { activation: 'silu' })],
    ["'b'", () => add(rec, x, t([4, 7], 'f16'), t([4, 8]))],
    ["'y'", () => addInto(rec, x, t([32]))],
    ["'x'", () => axpy(rec, 2, t([4, 7]), x)],
    ["'head'", () => logLikelihood(rec, x, t([9, 7]), ids, t([4]))],
    ["'targets'", () => logLikelihood(rec, x, t([9, 8]), t([5], 'u32'), t([4]))],
    ['head of b', () => compareDistributions(rec, model, { ...model, head: t([8, 8]) }, ids, results)],
    ["'topB'", () => compareDistributions(rec, model, model, ids, { ...results, topB: t([4]) })],
    ["'out'", () => argmax(rec, x, t([4]))],
    ["'b'", () => cosineDistance(rec, x, t([4, 9]), t([4]))],
    ["'out'", () => rowNorms(rec, x, t([8]))],
    ["'x'", () => countNonFinite(rec, ids, t([1], 'u32'))],
    ["'counter'", () => countNonFinite(rec, x, t([1]))],
  ];
  for (const [name, work] of wrong)
    assert.match(await rejectsWith(work, 'INVALID_ARGUMENT'), new RegExp(name));
});

test('an id or a position out of range gives NaN in its row alone', async () => {
  const table = scope.own(tensorFrom(device, normals(5 * 8), [5, 8]));
  const ids = scope.own(tensorFrom(device, Uint32Array.of(4, 5, 0)));
  const out = t([3, 8]);
  embedding(device.recorder, table, ids, out);
  const rows = [...(await downloadF32(out))].map(Number.isNaN);
  assert.equal(rows, [...Array(8).fill(false), ...Array(8).fill(true), ...Array(8).fill(false)]);
  const keys = t([3, 8]);
  rope(device.recorder, out, keys, ids, table, { headDim: 8 });
  for (const tensor of [out, keys]) assert.ok(Number.isNaN((await downloadF32(tensor))[8]));
});

test('tiles of rows cover a matrix at bindable offsets', () => {
  for (const [rows, columns, most, dtype] of [
    [1000, 7, 300, 'bf16'],
    [1000, 576, 256, 'f32'],
    [257, 1, 256, 'f16'],
    [1000, 2048, 10, 'f32'],
    [5, 3, 5, 'f32'],
  ] as const) {
    const matrix = t([rows, columns], dtype);
    let next = 0;
    for (const { start, tensor } of rowTiles(matrix, most)) {
      assert.is(start, next);
      assert.is(tensor.byteOffset % device.limits.minStorageBufferOffsetAlignment, 0);
      assert.ok(tensor.rowCount <= Math.max(most, 128));
      next += tensor.rowCount;
    }
    assert.is(next, rows);
  }
});

test('empty tensors record nothing', async () => {
  const rec = device.recorder;
  const before = rec.dispatches;
  const [x, ids] = [t([0, 8]), t([0], 'u32')];
  const options = { heads: 2, kvHeads: 2, headDim: 4, scale: 1 };
  embedding(rec, t([5, 8]), ids, t([0, 8]));
  rmsNorm(rec, x, t([8]), t([0, 8]), 1e-5);
  layerNorm(rec, x, t([8]), t([8]), t([0, 8]), 1e-5);
  rope(rec, x, t([0, 4]), ids, t([5, 4]), { headDim: 4 });
  attention(rec, x, t([0, 8]), t([0, 8]), t([0, 2], 'u32'), t([0, 8]), options);
  gatedMatmul(rec, x, t([8, 8]), t([8, 8]), t([0, 8]), { activation: 'silu' });
  add(rec, x, x, t([0, 8]));
  logLikelihood(rec, x, t([9, 8]), ids, t([0]));
  argmax(rec, x, ids);
  assert.is(rec.dispatches, before);
  await rec.finish();
});

test.run();
