import type { MatmulChoice } from '../matmul/builtInChoice.js';
import { matmul, matmulName, matmulVariants } from '../matmul/matmul.js';
import type { Activation } from '../shared/activation.js';
import type { FloatType } from '../shared/checks.js';
import { symmetrize } from '../solve/symmetrize.js';
import { activations } from './activations.js';
import type { CaseVariant, KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

type Form = 'NT' | 'NN' | 'TN';

interface MatmulCase {
  form: Form;
  m: number;
  n: number;
  k: number;
  a?: FloatType;
  b?: FloatType;
  bias?: boolean;
  activation?: Activation;
  residual?: boolean;
  accumulate?: boolean;
  /** Both operands are the same; the kernel computes out's lower triangle, which `symmetrize` mirrors. */
  lower?: boolean;
  /** f32 operands may be rounded to 11 bits. */
  single?: boolean;
  bench?: boolean;
}

/** Accepted error where f32 operands are rounded to 11 bits. */
const SINGLE_TOLERANCE = 2 ** -10;

/** A variant of matmul or gatedMatmul. */
export interface MatmulVariant extends CaseVariant {
  readonly choice: MatmulChoice;
}

export const namedChoices = (choices: readonly MatmulChoice[]): MatmulVariant[] =>
  choices.map(choice => ({ name: matmulName(choice), choice }));

const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));

/** The product in f64, added to `start`. */
export function hostMatmul(
  { m, n, k, form }: Pick<MatmulCase, 'form' | 'm' | 'n' | 'k'>,
  a: Float32Array,
  b: Float32Array,
  start: Float64Array,
): Float64Array {
  const rowMajorB = new Float64Array(k * n);
  for (let l = 0; l < k; l++) {
    for (let j = 0; j < n; j++) rowMajorB[l * n + j] = form === 'NT' ? b[j * k + l]! : b[l * n + j]!;
  }
  const out = start.slice();
  for (let i = 0; i < m; i++) {
    const row = out.subarray(i * n, (i + 1) * n);
    for (let l = 0; l < k; l++) {
      const factor = form === 'TN' ? a[l * m + i]! : a[i * k + l]!;
      const offset = l * n;
      for (let j = 0; j < n; j++) row[j]! += factor * rowMajorB[offset + j]!;
    }
  }
  return out;
}

/** A product of random matrices with an error |C - C64|_F / (|A|_F |B|_F) of at most 1e-6 for all dtypes; `single` more. */
export function matmulCase(item: MatmulCase): KernelCase<MatmulVariant> {
  const { form, m, n, k, a = 'f32', b = 'f32' } = item;
  const {
    bias = false,
    activation,
    residual = false,
    accumulate = false,
    lower = false,
    single = false,
    bench = false,
  } = item;
  const [transposeA, transposeB] = [form === 'TN', form === 'NT'];
  const dtypes = a === b ? a : `${a} x ${b}`;
  const size = (dtype: FloatType) => (dtype === 'f32' ? 4 : 2);
  const extras = [
    lower && ', lower triangle',
    single && ', 11 bits',
    bias && ' + bias',
    activation && `, ${activation}`,
    residual && ' + residual',
    accumulate && ' + out',
  ].filter(Boolean);
  return {
    kernel: 'matmul',
    name: `${form} ${m}x${n}x${k} ${dtypes}${extras.join('')}`,
    flops: (lower ? m + 1 : 2 * m) * n * k,
    bytes: m * k * size(a) + n * k * size(b) + 4 * m * n,
    bench,
    tolerance: single ? SINGLE_TOLERANCE : 1e-6,
    variants: device =>
      namedChoices(matmulVariants(device, { m, n, k, transposeA, transposeB }, { a, b }, single)),
    async setup(scope) {
      const left = await caseTensor(scope, normals(m * k, 1), transposeA ? [k, m] : [m, k], a);
      const right = lower
        ? left
        : await caseTensor(scope, normals(n * k, 2), transposeB ? [n, k] : [k, n], b);
      const biases = bias ? await caseTensor(scope, normals(n, 3), [n]) : undefined;
      const added = residual ? await caseTensor(scope, normals(m * n, 5), [m, n]) : undefined;
      // Always filled: old values must vanish unless the case accumulates.
      const out = await caseTensor(scope, normals(m * n, 4), [m, n]);
      return {
        output: out.tensor,
        run: (rec, variant) => {
          matmul(rec, left.tensor, right.tensor, out.tensor, {
            transposeA,
            transposeB,
            accumulate,
            lower,
            bias: biases?.tensor,
            activation,
            residual: added?.tensor,
            variant: variant?.choice,
          });
          if (lower) symmetrize(rec, out.tensor);
        },
        reference: () => {
          const start = Float64Array.from({ length: m * n }, (_, i) => biases?.values[i % n] ?? 0);
          const active = activation ? activations[activation] : (x: number) => x;
          const expected = hostMatmul(item, left.values, right.values, start).map(
            (x, i) => active(x) + (accumulate ? out.values[i]! : 0) + (added?.values[i] ?? 0),
          );
          if (activation) return { expected };
          return { expected, scale: norm(left.values) * norm(right.values) || 1 };
        },
      };
    },
  };
}

/** Cases share layouts on purpose: each variant of each layout is a program, and drivers on the CPU compile slowly. */
export const matmulCases: KernelCase[] = [
  // Odd extents, operands of every dtype.
  matmulCase({ form: 'NT', m: 1, n: 1, k: 1 }),
  matmulCase({ form: 'NT', m: 7, n: 1001, k: 61 }),
  matmulCase({ form: 'NN', m: 7, n: 1001, k: 61, a: 'bf16', b: 'f16', accumulate: true }),
  matmulCase({ form: 'TN', m: 7, n: 1001, k: 61, a: 'f16', b: 'f16' }),
  matmulCase({ form: 'NT', m: 129, n: 131, k: 127, a: 'f16', b: 'f16', bias: true, residual: true }),
  matmulCase({ form: 'NT', m: 3, n: 67, k: 129, b: 'f16', activation: 'quick_gelu', residual: true }),
  matmulCase({ form: 'NT', m: 3, n: 128, k: 576, b: 'bf16', bias: true, activation: 'gelu' }),
  // More than 65,535 workgroups.
  matmulCase({ form: 'NT', m: 1, n: 2_100_001, k: 1 }),
  matmulCase({ form: 'NT', m: 5, n: 3, k: 0, b: 'bf16', bias: true }),
  matmulCase({ form: 'NT', m: 1, n: 577, k: 576, b: 'bf16', bias: true }),
  matmulCase({ form: 'NT', m: 4, n: 1001, k: 72, b: 'bf16', bias: true }),
  // Extents that are multiples of 4.
  matmulCase({ form: 'NT', m: 68, n: 144, k: 576, b: 'bf16', residual: true }),
  matmulCase({ form: 'NT', m: 68, n: 144, k: 576, b: 'bf16', residual: true, single: true }),
  matmulCase({ form: 'NN', m: 40, n: 68, k: 36, a: 'f16', b: 'f16' }),
  matmulCase({ form: 'TN', m: 36, n: 140, k: 52, a: 'f16', b: 'f16', accumulate: true, bias: true }),
  matmulCase({ form: 'NT', m: 512, n: 512, k: 512, bench: true }),
  matmulCase({ form: 'NT', m: 256, n: 1536, k: 576, bench: true }),
  matmulCase({ form: 'NT', m: 128, n: 1536, k: 576, b: 'bf16', bench: true }),
  matmulCase({ form: 'NN', m: 256, n: 256, k: 256, bench: true }),
  matmulCase({ form: 'TN', m: 576, n: 576, k: 256, bench: true }),
  matmulCase({ form: 'TN', m: 260, n: 260, k: 100, lower: true }),
  matmulCase({ form: 'TN', m: 576, n: 576, k: 256, lower: true, bench: true }),
];
