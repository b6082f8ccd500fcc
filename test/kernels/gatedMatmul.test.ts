import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Tensor } from '../../engine/index.js';
import { gatedMatmulCases } from '../../kernels/cases/gatedMatmul.js';
import { gatedMatmul } from '../../kernels/matmul/gatedMatmul.js';
import { rejectsWith } from '../gpu.js';
import { chosenVariantWhereLarge, testCases } from './runCases.js';

const device = testCases(chosenVariantWhereLarge(gatedMatmulCases));

test('shapes, dtypes and variants that do not fit are INVALID_ARGUMENT', async () => {
  const rec = device().recorder;
  const matrix = (shape: number[], dtype: 'f32' | 'bf16' | 'u32' = 'f32') =>
    Tensor.create(device(), shape, dtype, `[${shape}]`);
  using x = matrix([8, 6]);
  using gate = matrix([10, 6], 'bf16');
  using up = matrix([10, 6], 'bf16');
  using short = matrix([9, 6], 'bf16');
  using words = matrix([10, 6], 'u32');
  using out = matrix([8, 10]);
  const options = { activation: 'silu' } as const;
  assert.match(
    await rejectsWith(() => gatedMatmul(rec, x, gate, short, out, options), 'INVALID_ARGUMENT'),
    "up '[9,6]'",
  );
  await rejectsWith(() => gatedMatmul(rec, gate, x, up, out, options), 'INVALID_ARGUMENT');
  await rejectsWith(() => gatedMatmul(rec, x, gate, words, out, options), 'INVALID_ARGUMENT');
  await rejectsWith(() => gatedMatmul(rec, x, gate, up, x, options), 'INVALID_ARGUMENT');
  await rejectsWith(() => gatedMatmul(rec, x, gate, up, out, { ...options, upBias: x }), 'INVALID_ARGUMENT');
  const variant = { variant: 'matvec', perLane: true } as const;
  await rejectsWith(() => gatedMatmul(rec, x, gate, up, out, { ...options, variant }), 'INVALID_ARGUMENT');
  gatedMatmul(rec, x, gate, up, out, options);
});

test.run();
