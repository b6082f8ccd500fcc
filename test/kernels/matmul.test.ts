import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Device, Tensor } from '../../engine/index.js';
import { matmulCases } from '../../kernels/cases/matmul.js';
import { chooseMatmul, matrixUnit, type OperandTypes } from '../../kernels/matmul/builtInChoice.js';
import { matmul, matmulVariants } from '../../kernels/matmul/matmul.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped } from '../support.js';
import { chosenVariantWhereLarge, testCases } from './runCases.js';

const device = testCases(chosenVariantWhereLarge(matmulCases));

test('shapes, dtypes and variants that do not fit are INVALID_ARGUMENT', async () => {
  const rec = device().recorder;
  using a = Tensor.create(device(), [4, 6], 'f32', 'left');
  using b = Tensor.create(device(), [5, 6], 'bf16', 'right');
  using out = Tensor.create(device(), [4, 5], 'f32', 'result');
  using words = Tensor.create(device(), [5, 6], 'u32', 'words');
  assert.match(await rejectsWith(() => matmul(rec, a, b, out), 'INVALID_ARGUMENT'), "'left' [4,6]");
  await rejectsWith(() => matmul(rec, a, b, b, { transposeB: true }), 'INVALID_ARGUMENT');
  await rejectsWith(() => matmul(rec, a, words, out, { transposeB: true }), 'INVALID_ARGUMENT');
  await rejectsWith(() => matmul(rec, a, b, out, { transposeB: true, bias: a }), 'INVALID_ARGUMENT');
  await rejectsWith(() => matmul(rec, a, b, out, { transposeA: true, transposeB: true }), 'INVALID_ARGUMENT');
  await rejectsWith(() => matmul(rec, a, b, out, { transposeB: true, residual: a }), 'INVALID_ARGUMENT');
  await rejectsWith(() => matmul(rec, a, b, out, { transposeB: true, residual: out }), 'INVALID_ARGUMENT');
  const variant = { variant: 'broadcast', subgroup: 5, rows: 8 } as const;
  await rejectsWith(() => matmul(rec, a, b, out, { transposeB: true, variant }), 'INVALID_ARGUMENT');
  matmul(rec, a, b, out, { transposeB: true });
});

test('variants that need a missing feature are left out', () => {
  if (!device().features.subgroupMatrix) {
    saySkipped('subgroupMatrix, the adapter has no subgroup matrices (see subgroupMatrix.test)');
  }
});

const shape = { m: 512, n: 1536, k: 576, transposeA: false, transposeB: true };
const names = { description: '', vendor: '', device: '' } as const;
const lavapipe = {
  ...names,
  kind: 'software',
  subgroupMinSize: 8,
  subgroupMaxSize: 8,
  subgroupMatrixConfigs: [],
} as const;
const gpu = {
  ...names,
  kind: 'gpu',
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
  subgroupMatrixConfigs: [
    { component: 'f16', result: 'f16', m: 16, n: 16, k: 16 },
    { component: 'f16', result: 'f32', m: 16, n: 8, k: 16 },
    { component: 'f16', result: 'f32', m: 16, n: 16, k: 16 },
    { component: 'i8', result: 'i32', m: 16, n: 16, k: 32 },
  ],
} as const;
const features = { f16: true, subgroups: true, subgroupMatrix: true, subgroupSizeControl: true };
const f32 = { a: 'f32', b: 'f32' } as const;

test('the choice on software drivers: broadcast where there is one subgroup size', () => {
  assert.is(chooseMatmul(lavapipe, features, shape, f32).variant, 'broadcast');
  const rows = (m: number) => {
    const choice = chooseMatmul(lavapipe, features, { ...shape, m, transposeB: true }, f32);
    return choice.variant === 'broadcast' ? choice.rows : choice.variant;
  };
  assert.equal([1, 2, 3, 4, 5, 9, 17, 500].map(rows), ['matvec', 2, 4, 4, 8, 16, 32, 32]);
  assert.is(chooseMatmul(lavapipe, { ...features, subgroups: false }, shape, f32).variant, 'tiled');
  assert.is(chooseMatmul({ ...lavapipe, subgroupMaxSize: 16 }, features, shape, f32).variant, 'tiled');
});

test('the choice on GPUs: the largest tile that keeps it busy, split along k where tiles are few', () => {
  const tile = (m: number, n: number, k = 576) => {
    const choice = chooseMatmul(gpu, features, { ...shape, m, n, k }, f32);
    return choice.variant === 'tiled' ? [choice.rows, choice.columns, choice.splits] : choice.variant;
  };
  assert.equal(tile(4096, 4096), [128, 128, 1]);
  assert.equal(tile(1024, 1024), [128, 64, 1]);
  assert.equal(tile(512, 576), [64, 64, 1]);
  assert.equal(tile(64, 576, 4096), [64, 64, 14]);
  assert.equal(tile(64, 576, 255), [64, 64, 1]);
  assert.is(tile(1, 4096), 'matvec');
  const intel = chooseMatmul({ ...gpu, vendor: 'intel' }, features, { ...shape, m: 4096, n: 4096 }, f32);
  assert.equal(intel, { variant: 'tiled', rows: 64, columns: 64, splits: 1 });
});

test('matrix units: for f16 where there are any, for other types where they are much faster than f32', () => {
  const f16 = { a: 'f16', b: 'f16' } as const;
  const bf16 = { a: 'f32', b: 'bf16' } as const;
  const choose = (dtypes: OperandTypes, from: Parameters<typeof chooseMatmul>[0] = gpu, more = features) =>
    chooseMatmul(from, more, { ...shape, m: 4096, n: 4096 }, dtypes);
  const unit = { m: 16, n: 16, k: 16, subgroup: 32, sized: false };
  const matrices = { variant: 'subgroupMatrix', single: false, unit };
  assert.equal(choose(f16), { ...matrices, rows: 128, columns: 128 });
  assert.is(choose(bf16).variant, 'tiled');
  const h100 = { ...gpu, device: 'NVIDIA H100 80GB HBM3' };
  assert.equal(choose(bf16, h100), { ...matrices, rows: 64, columns: 128 });
  assert.equal(choose(f32, h100), { ...matrices, rows: 64, columns: 64 });
  assert.is(chooseMatmul(h100, features, { ...shape, m: 32 }, bf16).variant, 'tiled');
  assert.equal(chooseMatmul(gpu, features, { ...shape, m: 4096, n: 4096 }, bf16, true), {
    ...{ ...matrices, single: true },
    ...{ rows: 128, columns: 128 },
  });
  assert.is(choose(f16, { ...gpu, subgroupMatrixConfigs: [gpu.subgroupMatrixConfigs[0]] }).variant, 'tiled');
  assert.is(choose(f16, { ...gpu, vendor: 'intel' }).variant, 'tiled');
  assert.is(choose(f16, gpu, { ...features, f16: false }).variant, 'tiled');
});

test('matrix units: subgroups of 32 on request where there are several sizes, else of the only size', () => {
  const of = (subgroupMinSize: number, subgroupMaxSize: number, more = features) =>
    matrixUnit({ ...gpu, subgroupMinSize, subgroupMaxSize }, more);
  assert.equal(of(32, 64), { m: 16, n: 16, k: 16, subgroup: 32, sized: true });
  assert.equal(of(64, 64), { m: 16, n: 16, k: 16, subgroup: 64, sized: false });
  assert.equal(of(32, 64, { ...features, subgroupSizeControl: false }), undefined);
  // Mesa's lavapipe 26: 8x8x8 alone, subgroups of 8.
  const small = [{ component: 'f16', result: 'f32', m: 8, n: 8, k: 8 }];
  assert.equal(matrixUnit({ ...lavapipe, subgroupMatrixConfigs: small }, features), {
    ...{ m: 8, n: 8, k: 8, subgroup: 8, sized: false },
  });
});

test('matmulVariants: the built-in choice first, each once, only those that fit', () => {
  for (const info of [gpu, lavapipe]) {
    for (const m of [1, 70, 4096]) {
      const target = { info, features } as unknown as Device;
      const variants = matmulVariants(target, { ...shape, m }, f32);
      assert.equal(variants[0], chooseMatmul(info, features, { ...shape, m }, f32));
      assert.is(new Set(variants.map(variant => JSON.stringify(variant))).size, variants.length);
      assert.is(
        variants.some(({ variant }) => variant === 'matvec'),
        m === 1,
      );
    }
  }
});

test.run();
