import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { tune } from '../../bench/tune.js';
import { type AdapterInfo, Device, type DeviceFeatures } from '../../engine/index.js';
import { tuningCases } from '../../kernels/cases/tuning.js';
import { defaultMatmul, matmulClass, matmulName, matmulVariants } from '../../kernels/matmul/variants.js';
import { applyTuning, extentClass, tuningForm } from '../../kernels/shared/tunedVariants.js';
import { rejectsWith } from '../gpu.js';

const shape = { m: 200, n: 700, k: 600, transposeA: false, transposeB: true };
const dtypes = { a: 'f32', b: 'bf16' } as const;

test('extents share classes by the nearest power of four', () => {
  assert.equal([0, 1, 2, 3, 7, 8, 31, 32, 511, 576, 2047, 2048].map(extentClass), [
    ...[1, 1, 4, 4, 4, 16, 16, 64, 256, 1024, 1024, 4096],
  ]);
});

test('a measured variant is taken for all shapes of its class, and only there', async () => {
  await using device = await Device.open();
  const variants = matmulVariants(device, shape, dtypes);
  const [builtIn, other] = variants;
  assert.equal(defaultMatmul(device, shape, dtypes), builtIn);
  applyTuning(device, { matmul: { [matmulClass(shape, dtypes)]: matmulName(other!) } });
  assert.equal(defaultMatmul(device, shape, dtypes), other);
  assert.equal(defaultMatmul(device, { ...shape, m: 257, n: 1000 }, dtypes), other);
  assert.equal(defaultMatmul(device, shape, { ...dtypes, b: 'f16' }), builtIn);
  applyTuning(device, { matmul: { [matmulClass(shape, dtypes)]: 'of another GPU' } });
  assert.equal(defaultMatmul(device, shape, dtypes), builtIn, 'what cannot run here is ignored');
});

test('on a GPU, tune knows the shapes of 8B models and heads over 128k tokens', () => {
  const cases = tuningCases({ info: { kind: 'gpu' } as AdapterInfo, features: {} as DeviceFeatures });
  const names = new Set(cases.map(({ item }) => `${item.kernel} ${item.name}`));
  for (const m of [1, 16, 256]) {
    for (const [n, k] of [
      [14336, 4096],
      [4096, 14336],
      [128256, 2048],
    ])
      assert.ok(names.has(`matmul NT ${m}x${n}x${k} f32 x bf16`), `${[...names].join('\n')}`);
    assert.ok([...names].some(name => name.startsWith(`gatedMatmul ${m}x14336x4096`)));
  }
});

test('values that are not a tuning are refused', async () => {
  await using device = await Device.open();
  for (const value of [null, [], { matmul: 'tiled' }, { matmul: { class: 3 } }]) {
    assert.ok(tuningForm(value, 'tuning'));
    await rejectsWith(() => applyTuning(device, value as never), 'INVALID_ARGUMENT');
  }
});

test('tune: a choice among the variants for every class it had time for', async () => {
  await using device = await Device.open();
  const { memory } = device;
  const cases = tuningCases(device).slice(0, 2);
  const live = memory.liveBytes;
  const { tuning, measured, left } = await tune(device, { cases, seconds: 60 });
  assert.equal(left, []);
  assert.is(memory.liveBytes, live);
  assert.is(tuningForm(tuning, ''), undefined);
  for (const [i, { kernel, shapeClass, milliseconds, builtIn, chosen }] of measured.entries()) {
    const names = cases[i]!.item.variants!(device).map(({ name }) => name);
    assert.is(builtIn, names[0]);
    assert.is(tuning[kernel]?.[shapeClass] ?? builtIn, chosen);
    assert.ok(chosen in milliseconds && builtIn in milliseconds);
    assert.ok(Object.keys(milliseconds).every(name => names.includes(name)));
  }
  const none = await tune(device, { cases, seconds: -1 });
  assert.equal(none.tuning, {});
  assert.is(none.left.length, 2);
});

test('classes are distinct, so that no measurement replaces another', async () => {
  await using device = await Device.open();
  const names = tuningCases(device).map(({ shapeClass, item }) => `${item.kernel} ${shapeClass}`);
  assert.is(new Set(names).size, names.length);
});

test.run();
