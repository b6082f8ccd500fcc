// Routing, grouping and products of groups against f64 on the host. 10 s.
import { test } from 'uvu';
import { Tensor } from '../../engine/index.js';
import { expertCases } from '../../kernels/cases/experts.js';
import { groupedGatedMatmul, groupedMatmul } from '../../kernels/index.js';
import { rejectsWith } from '../gpu.js';
import { chosenVariantWhereLarge, testCases } from './runCases.js';

const device = testCases(chosenVariantWhereLarge(expertCases));

test('shapes and dtypes that do not fit are INVALID_ARGUMENT', async () => {
  const rec = device().recorder;
  const matrix = (shape: number[], dtype: 'f32' | 'bf16' | 'u32' = 'f32') =>
    Tensor.create(device(), shape, dtype, `[${shape}]`);
  using x = matrix([8, 6]);
  using weights = matrix([30, 6], 'bf16');
  using short = matrix([29, 6], 'bf16');
  using begins = matrix([4], 'u32');
  using floats = matrix([4]);
  using out = matrix([8, 10]);
  await rejectsWith(() => groupedMatmul(rec, x, short, begins, out), 'INVALID_ARGUMENT');
  await rejectsWith(() => groupedMatmul(rec, x, weights, floats, out), 'INVALID_ARGUMENT');
  await rejectsWith(() => groupedMatmul(rec, x, weights, begins, x), 'INVALID_ARGUMENT');
  await rejectsWith(() => groupedMatmul(rec, x, weights, begins, out, { bias: out }), 'INVALID_ARGUMENT');
  const options = { activation: 'silu' } as const;
  await rejectsWith(
    () => groupedGatedMatmul(rec, x, weights, short, begins, out, options),
    'INVALID_ARGUMENT',
  );
});

test.run();
