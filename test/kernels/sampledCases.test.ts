// The host's samples of large cases, on sizes whose whole result the f64 references of the ordinary cases confirm. Costs 5 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import {
  checkSampledCase,
  type SampledCase,
  sampledAdd,
  sampledAttention,
  sampledGatedMatmul,
  sampledGram,
  sampledMatmul,
  sampledRmsNorm,
} from '../../kernels/index.js';

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(async () => {
  await device.close();
});

const heads = { heads: 4, kvHeads: 2, headDim: 32 };
const cases: SampledCase[] = [
  sampledMatmul({ form: 'NT', m: 37, n: 68, k: 144, b: 'bf16' }),
  sampledMatmul({ form: 'NT', m: 16, n: 100, k: 64, b: 'f16', behind: 1 << 20 }),
  sampledMatmul({ form: 'TN', m: 70, n: 70, k: 50, lower: true }),
  // More elements than the numbers' period.
  sampledMatmul({ form: 'NT', m: 2, n: 1700, k: 64, b: 'bf16' }),
  sampledGatedMatmul(9, 72, 64),
  sampledAttention({ queries: 65, keys: 65, ...heads }),
  sampledAttention({ queries: 1, keys: 200, ...heads }),
  sampledGram(300, 65),
  sampledGram(300, 65, 40),
  sampledRmsNorm(33, 500),
  // More than 65,535 workgroups where a lane takes one element.
  sampledAdd(4111, 4099),
] as unknown as SampledCase[];

for (const item of cases) {
  test(`${item.kernel} ${item.name}`, async () => {
    const live = device.memory.liveBytes;
    let variants = 0;
    for await (const { variant, error, repeats } of checkSampledCase(device, item)) {
      assert.ok(error <= item.tolerance, `${variant}: ${error}`);
      assert.ok(repeats, `${variant} repeats`);
      variants++;
    }
    assert.ok(variants > 0);
    assert.is(device.memory.liveBytes, live);
  });
}

test('a variant that computes nothing is wrong by far, though others before it were right', async () => {
  const [item] = cases;
  const planted = item!.variants!(device).at(-1)!;
  process.env.RM_ENGINE_WRONG_KERNEL = `matmul ${planted.name}`;
  // The first one has compiled its programs.
  const other = await Device.open();
  try {
    // NaN is wrong too.
    for await (const { variant, error } of checkSampledCase(other, item!))
      assert.is(!(error <= 1e-3), variant === planted.name, `${variant}: ${error}`);
  } finally {
    delete process.env.RM_ENGINE_WRONG_KERNEL;
    await other.close();
  }
});

test.run();
