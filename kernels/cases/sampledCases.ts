import { byteSize, tensorFrom } from '../../engine/index.js';
import { attention } from '../attention/attention.js';
import { type AttentionVariant, attentionVariants } from '../attention/variants.js';
import { crossGram } from '../gram/crossGram.js';
import { gram } from '../gram/gram.js';
import { outerProductsName, outerProductsVariants } from '../gram/variants.js';
import { add } from '../map/named.js';
import { gatedMatmul, gatedMatmulVariants } from '../matmul/gatedMatmul.js';
import { matmul, matmulVariants } from '../matmul/matmul.js';
import { rmsNorm } from '../norms/rmsNorm.js';
import type { FloatType } from '../shared/checks.js';
import { clearDoubleSingle, createDoubleSingle } from '../shared/doubleSingle.js';
import { activations } from './activations.js';
import { causalRanges } from './attention.js';
import type { OuterProductsVariant } from './gramAndSolve.js';
import { type MatmulVariant, namedChoices } from './matmul.js';
import { type Expected, fillPeriodic, periodicTensor, type SampledCase } from './sampled.js';

/** A sum of products in f64, and |a| |b|. */
function dot(length: number, a: (i: number) => number, b: (i: number) => number): Expected {
  let [value, left, right] = [0, 0, 0];
  for (let i = 0; i < length; i++) {
    const [x, y] = [a(i), b(i)];
    value += x * y;
    left += x * x;
    right += y * y;
  }
  return { value, scale: Math.sqrt(left * right) || 1 };
}

/** The extents of a product, and how its operands are stored. */
export interface SampledProduct {
  readonly form: 'NT' | 'TN';
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a?: FloatType;
  readonly b?: FloatType;
  /** A^T A, of which only the lower triangle is computed. */
  readonly lower?: boolean;
  /** B lies behind so many bytes of the same buffer (whole rows of it). */
  readonly behind?: number;
}

/** A product of random matrices. */
export function sampledMatmul(item: SampledProduct): SampledCase<MatmulVariant> {
  const { form, m, n, k, a = 'f32', b = 'f32', lower = false, behind = 0 } = item;
  const [transposeA, transposeB] = [form === 'TN', form === 'NT'];
  const extras = `${lower ? ', lower triangle' : ''}${behind ? `, ${Math.round(behind / 2 ** 20)} MiB into a buffer` : ''}`;
  return {
    kernel: 'matmul',
    name: `${form} ${m}x${n}x${k} ${a === b ? a : `${a} x ${b}`}${extras}`,
    flops: (lower ? m + 1 : 2 * m) * n * k,
    bytes: m * k * byteSize(a) + (lower ? 0 : n * k * byteSize(b)) + 4 * m * n,
    tolerance: 1e-6,
    ...(form === 'NT' && { product: { m, n, k, types: [a, b] } }),
    variants: device => namedChoices(matmulVariants(device, { m, n, k, transposeA, transposeB }, { a, b })),
    async setup(scope) {
      const left = await periodicTensor(scope, transposeA ? [k, m] : [m, k], a, 1);
      const shape = transposeB ? [n, k] : [k, n];
      const before = Math.ceil(behind / (shape[1]! * byteSize(b)));
      const whole = lower ? left.tensor : scope.tensor([before + shape[0]!, shape[1]!], b);
      const right = lower ? left.tensor : whole.rows(before, shape[0]!);
      const atRight = lower ? left.at : await fillPeriodic(right, 2);
      const output = scope.tensor([m, n]);
      return {
        output,
        run: (rec, variant) =>
          matmul(rec, left.tensor, right, output, {
            transposeA,
            transposeB,
            lower,
            variant: variant?.choice,
          }),
        ...(lower && { place: (row, column) => [Math.max(row, column), Math.min(row, column)] as const }),
        expected: (row, column) =>
          dot(
            k,
            i => left.at(transposeA ? i * m + row : row * k + i),
            i => atRight(transposeB ? column * k + i : i * n + column),
          ),
      };
    },
  };
}

/** silu(x gate^T) * (x up^T), the first half of a feed-forward block. */
export function sampledGatedMatmul(m: number, n: number, k: number): SampledCase<MatmulVariant> {
  return {
    kernel: 'gatedMatmul',
    name: `${m}x${n}x${k} bf16 silu`,
    flops: 4 * m * n * k,
    bytes: 4 * m * k + 4 * n * k + 4 * m * n,
    tolerance: 2e-6,
    product: { m, n, k, types: ['f32', 'bf16', 'bf16'] },
    variants: device => namedChoices(gatedMatmulVariants(device, { m, n, k }, ['f32', 'bf16', 'bf16'])),
    async setup(scope) {
      const x = await periodicTensor(scope, [m, k], 'f32', 1);
      const gate = await periodicTensor(scope, [n, k], 'bf16', 2, 1 / Math.sqrt(k));
      const up = await periodicTensor(scope, [n, k], 'bf16', 3);
      const output = scope.tensor([m, n]);
      return {
        output,
        run: (rec, variant) =>
          gatedMatmul(rec, x.tensor, gate.tensor, up.tensor, output, {
            activation: 'silu',
            variant: variant?.choice,
          }),
        expected(row, column) {
          const product = (weights: (index: number) => number) =>
            dot(
              k,
              i => x.at(row * k + i),
              i => weights(column * k + i),
            );
          const [gates, ups] = [product(gate.at), product(up.at)];
          const value = activations.silu(gates.value) * ups.value;
          return { value, scale: (Math.abs(gates.value) + 1) * ups.scale };
        },
      };
    },
  };
}

interface AttentionSizes {
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Causal attention of a sequence, or of its last token alone. */
export function sampledAttention(sizes: AttentionSizes): SampledCase<AttentionVariant> {
  const { queries, keys, heads, kvHeads, headDim } = sizes;
  const ranges = queries === 1 ? Uint32Array.of(0, keys) : causalRanges([queries]);
  const pairs = queries === 1 ? keys : (queries * (queries + 1)) / 2;
  const scale = 1 / Math.sqrt(headDim);
  return {
    kernel: 'attention',
    name: `${queries} of ${keys}, heads ${heads}/${kvHeads} x ${headDim}`,
    flops: 4 * pairs * heads * headDim,
    bytes: 8 * (queries * heads + keys * kvHeads) * headDim,
    tolerance: 1e-5,
    variants: device => attentionVariants(device, sizes),
    async setup(scope) {
      const q = await periodicTensor(scope, [queries, heads * headDim], 'f32', 1);
      const k = await periodicTensor(scope, [keys, kvHeads * headDim], 'f32', 2);
      const v = await periodicTensor(scope, [keys, kvHeads * headDim], 'f32', 3);
      const bounds = scope.own(tensorFrom(scope.device, ranges, [queries, 2]));
      const output = scope.tensor([queries, heads * headDim]);
      const options = { heads, kvHeads, headDim, scale };
      return {
        output,
        run: (rec, variant) =>
          attention(rec, q.tensor, k.tensor, v.tensor, bounds, output, { ...options, variant }),
        expected(row, column) {
          const head = Math.floor(column / headDim);
          const ofKeys = Math.floor((head * kvHeads) / heads) * headDim;
          const [start, end] = [ranges[2 * row]!, ranges[2 * row + 1]!];
          const at = (key: number, d: number) => key * kvHeads * headDim + ofKeys + d;
          const scores = Float64Array.from({ length: end - start }, (_, i) => {
            const query = row * heads * headDim + head * headDim;
            return (
              scale *
              dot(
                headDim,
                d => q.at(query + d),
                d => k.at(at(start + i, d)),
              ).value
            );
          });
          const most = scores.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
          const weights = scores.map(score => Math.exp(score - most));
          const total = weights.reduce((a, b) => a + b, 0);
          const value = weights.reduce(
            (sum, w, i) => sum + (w / total) * v.at(at(start + i, column % headDim)),
            0,
          );
          return { value, scale: 1 };
        },
      };
    },
  };
}

/** X^T X, or X^T Y, in double-single. */
export function sampledGram(rows: number, m: number, n?: number): SampledCase<OuterProductsVariant> {
  const columns = n ?? m;
  return {
    kernel: n === undefined ? 'gram' : 'crossGram',
    name: `${rows}x${m}${n === undefined ? '' : `, ${rows}x${n}`}`,
    flops: n === undefined ? rows * m * (m + 1) : 2 * rows * m * n,
    bytes: 4 * rows * (m + (n ?? 0)) + 8 * m * columns,
    // The leading half of the result is compared.
    tolerance: 1e-6,
    variants: device =>
      outerProductsVariants(device).map(choice => ({ name: outerProductsName(choice), choice })),
    async setup(scope) {
      const x = await periodicTensor(scope, [rows, m], 'f32', 1);
      const y = n === undefined ? x : await periodicTensor(scope, [rows, n], 'f32', 2);
      const out = createDoubleSingle(scope, [m, columns]);
      return {
        output: out.hi,
        run(rec, variant) {
          clearDoubleSingle(rec, out);
          const options = { variant: variant?.choice };
          if (n === undefined) gram(rec, x.tensor, undefined, out, options);
          else crossGram(rec, x.tensor, y.tensor, undefined, out, options);
        },
        ...(n === undefined && {
          place: (row: number, column: number) => [Math.max(row, column), Math.min(row, column)] as const,
        }),
        expected: (row, column) =>
          dot(
            rows,
            i => x.at(i * m + row),
            i => y.at(i * columns + column),
          ),
      };
    },
  };
}

export function sampledRmsNorm(rows: number, columns: number): SampledCase {
  const eps = 1e-5;
  return {
    kernel: 'rmsNorm',
    name: `${rows}x${columns}`,
    flops: 4 * rows * columns,
    bytes: 8 * rows * columns,
    tolerance: 1e-5,
    async setup(scope) {
      const x = await periodicTensor(scope, [rows, columns], 'f32', 1);
      const gain = await periodicTensor(scope, [columns], 'f32', 2);
      const output = scope.tensor([rows, columns]);
      return {
        output,
        run: rec => rmsNorm(rec, x.tensor, gain.tensor, output, eps),
        expected(row, column) {
          const value = (i: number) => x.at(row * columns + i);
          const factor = 1 / Math.sqrt(dot(columns, value, value).value / columns + eps);
          return { value: value(column) * factor * gain.at(column), scale: 1 };
        },
      };
    },
  };
}

/** A sum of two tensors, for more workgroups than one dimension of a grid holds. */
export function sampledAdd(rows: number, columns: number): SampledCase {
  return {
    kernel: 'add',
    name: `${rows}x${columns}`,
    flops: rows * columns,
    bytes: 12 * rows * columns,
    // One rounding.
    tolerance: 1e-7,
    async setup(scope) {
      const a = await periodicTensor(scope, [rows, columns], 'f32', 1);
      const b = await periodicTensor(scope, [rows, columns], 'f32', 2);
      const output = scope.tensor([rows, columns]);
      return {
        output,
        run: rec => add(rec, a.tensor, b.tensor, output),
        expected(row, column) {
          const [x, y] = [a.at(row * columns + column), b.at(row * columns + column)];
          return { value: x + y, scale: Math.abs(x) + Math.abs(y) || 1 };
        },
      };
    },
  };
}
