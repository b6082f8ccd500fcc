/**
 * A microbenchmark: every variant of a product that this device can run, and a kernel made of two, in turns.
 *
 *   node dist/examples/microbenchmark.js [M N K]      default: 64 1536 576
 */
import { measure, type TimedCase } from 'rm-engine/bench';
import { Device, type Scope } from 'rm-engine/engine';
import { map, matmul, matmulName, matmulVariants, random } from 'rm-engine/kernels';

const [m = 64, n = 1536, k = 576] = process.argv.slice(2).map(Number);
const normals = (scope: Scope, shape: readonly number[], seed: number) => {
  const tensor = scope.tensor(shape);
  random(scope.device.recorder, tensor, { seed, distribution: 'normal' });
  return tensor;
};
const work = { flops: 2 * m * n * k, bytes: 4 * (m * k + n * k + m * n) };
const shape = { m, n, k, transposeA: false, transposeB: true };

const product: TimedCase<{ name: string; choice: ReturnType<typeof matmulVariants>[number] }> = {
  ...{ kernel: 'matmul', name: `${m}x${n}x${k}`, ...work },
  variants: device =>
    matmulVariants(device, shape, { a: 'f32', b: 'f32' }).map(choice => ({
      name: matmulName(choice),
      choice,
    })),
  setup(scope) {
    const [a, b, out] = [normals(scope, [m, k], 1), normals(scope, [n, k], 2), scope.tensor([m, n])];
    return {
      run: (rec, variant) =>
        matmul(rec, a, b, out, { transposeB: true, ...(variant && { variant: variant.choice }) }),
    };
  },
};
const activated: TimedCase = {
  ...{ kernel: 'matmul, then map', name: `${m}x${n}x${k}`, ...work },
  setup(scope) {
    const [a, b, out] = [normals(scope, [m, k], 1), normals(scope, [n, k], 2), scope.tensor([m, n])];
    return {
      run(rec) {
        matmul(rec, a, b, out, { transposeB: true });
        map(rec, 'silu(x)', { x: out }, out);
      },
    };
  },
};

await using device = await Device.open({ profile: true });
const { clock, timings } = await measure(device, [product, activated], { samples: 5, variants: true });
console.log(`${device.info.description}, ${clock === 'gpu' ? 'GPU timestamps' : 'wall clock'}`);
for (const { kernel, name, milliseconds, gflops } of timings)
  console.log(
    `${`${kernel} ${name}`.padEnd(52)} ${milliseconds.toFixed(3).padStart(8)} ms ${gflops.toFixed(1).padStart(8)} GFLOP/s`,
  );
