import { gatedMatmul, gatedMatmulVariants } from '../matmul/gatedMatmul.js';
import type { Activation } from '../shared/activation.js';
import type { FloatType } from '../shared/checks.js';
import { activations } from './activations.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';
import { hostMatmul, type MatmulVariant, namedChoices } from './matmul.js';

interface GatedMatmulCase {
  m: number;
  n: number;
  k: number;
  /** Dtype of gate and up; x is f32. */
  weights?: FloatType;
  activation?: Activation;
  bias?: boolean;
  /** Standard deviation of the values that the activation sees; default 3. */
  spread?: number;
  bench?: boolean;
}

/** A gated product of random matrices. */
export function gatedMatmulCase(item: GatedMatmulCase): KernelCase<MatmulVariant> {
  const { m, n, k, weights = 'bf16', activation = 'silu', bias = false, spread = 3, bench = false } = item;
  const name = `${m}x${n}x${k} ${weights} ${activation}${bias ? ' + biases' : ''}`;
  const weightBytes = weights === 'f32' ? 4 : 2;
  return {
    kernel: 'gatedMatmul',
    name: spread === 3 ? name : `${name} of ${spread}`,
    flops: 4 * m * n * k,
    bytes: 4 * m * k + 2 * weightBytes * n * k + 4 * m * n,
    bench,
    tolerance: 1e-6,
    variants: device => namedChoices(gatedMatmulVariants(device, { m, n, k }, ['f32', weights, weights])),
    async setup(scope) {
      const gateValues = normals(n * k, 2).map(value => (value * spread) / Math.sqrt(k || 1));
      const x = await caseTensor(scope, normals(m * k, 1), [m, k]);
      const gate = await caseTensor(scope, gateValues, [n, k], weights);
      const up = await caseTensor(scope, normals(n * k, 3), [n, k], weights);
      const gateBias = bias ? await caseTensor(scope, normals(n, 4), [n]) : undefined;
      const upBias = bias ? await caseTensor(scope, normals(n, 5), [n]) : undefined;
      const out = await caseTensor(scope, normals(m * n, 6), [m, n]);
      const options = { activation, gateBias: gateBias?.tensor, upBias: upBias?.tensor };
      return {
        output: out.tensor,
        run: (rec, variant) =>
          gatedMatmul(rec, x.tensor, gate.tensor, up.tensor, out.tensor, {
            ...options,
            variant: variant?.choice,
          }),
        reference: () => {
          const product = (right: Float32Array, start: Float32Array | undefined) =>
            hostMatmul(
              { form: 'NT', m, n, k },
              x.values,
              right,
              Float64Array.from({ length: m * n }, (_, i) => start?.[i % n] ?? 0),
            );
          const ups = product(up.values, upBias?.values);
          const expected = product(gate.values, gateBias?.values).map(
            (value, i) => activations[activation](value) * ups[i]!,
          );
          return { expected };
        },
      };
    },
  };
}

export const gatedMatmulCases: KernelCase[] = [
  gatedMatmulCase({ m: 5, n: 3, k: 0, bias: true }),
  gatedMatmulCase({ m: 1, n: 68, k: 64 }),
  gatedMatmulCase({ m: 3, n: 67, k: 129, weights: 'f16', bias: true }),
  gatedMatmulCase({ m: 70, n: 67, k: 129, weights: 'f16', bias: true }),
  // Wide spreads: no activation may overflow on the way.
  ...(['silu', 'gelu', 'gelu_tanh', 'quick_gelu', 'relu', 'relu2'] as const).flatMap(activation => [
    gatedMatmulCase({ m: 8, n: 132, k: 64, activation }),
    gatedMatmulCase({ m: 8, n: 132, k: 64, activation, spread: 1e4 }),
  ]),
  gatedMatmulCase({ m: 128, n: 1536, k: 576, bench: true }),
  gatedMatmulCase({ m: 1, n: 1536, k: 576, bench: true }),
];
