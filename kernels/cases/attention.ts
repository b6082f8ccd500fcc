import { type Scope, tensorFrom } from '../../engine/index.js';
import { type AttentionOptions, attention } from '../attention/attention.js';
import { type AttentionVariant, attentionVariants } from '../attention/variants.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

/** Key ranges of the queries of packed causal sequences, each at most `window` keys long. */
export function causalRanges(lengths: readonly number[], window = Number.POSITIVE_INFINITY): Uint32Array {
  const ranges: number[] = [];
  for (const length of lengths) {
    const start = ranges.length / 2;
    for (let t = start; t < start + length; t++) ranges.push(Math.max(start, t + 1 - window), t + 1);
  }
  return Uint32Array.from(ranges);
}

/** Key ranges of packed sequences in which every query sees all keys of its sequence. */
export function mutualRanges(lengths: readonly number[]): Uint32Array {
  let first = 0;
  return Uint32Array.from(
    lengths.flatMap(length => {
      const range = [first, first + length];
      first += length;
      return Array.from({ length }, () => range).flat();
    }),
  );
}

/** Attention in f64: out[t, h] = softmax(scale q.k) v over ranges[t], with a score besides for each head of `sinks`. */
export function attentionF64(
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  ranges: Uint32Array,
  { heads, kvHeads, headDim, scale, softcap }: AttentionOptions,
  sinks?: ArrayLike<number>,
): Float64Array {
  const out = new Float64Array(q.length);
  for (let at = 0; at < q.length; at += headDim) {
    const t = Math.floor(at / (heads * headDim));
    const kvHead = Math.floor((((at / headDim) % heads) * kvHeads) / heads);
    const [start, end] = [ranges[2 * t]!, ranges[2 * t + 1]!];
    const scores = new Float64Array(end - start);
    for (let s = start; s < end; s++) {
      const key = (s * kvHeads + kvHead) * headDim;
      for (let d = 0; d < headDim; d++) scores[s - start]! += scale * q[at + d]! * k[key + d]!;
    }
    if (softcap) scores.set(scores.map(score => softcap * Math.tanh(score / softcap)));
    const sink = sinks?.[(at / headDim) % heads] ?? Number.NEGATIVE_INFINITY;
    const most = scores.reduce((a, b) => Math.max(a, b), sink);
    const weights = scores.map(score => Math.exp(score - most));
    const total = weights.reduce((a, b) => a + b, sinks ? Math.exp(sink - most) : 0);
    weights.forEach((weight, i) => {
      const value = ((start + i) * kvHeads + kvHead) * headDim;
      for (let d = 0; d < headDim; d++) out[at + d]! += (weight / total) * v[value + d]!;
    });
  }
  return out;
}

interface Shape {
  name: string;
  heads: number;
  kvHeads: number;
  headDim: number;
  ranges: Uint32Array;
  softcap?: number;
  /** Each head has a sink. */
  sunk?: boolean;
  /** Key rows; default: one per query. */
  keys?: number;
  bench?: boolean;
}

/** Attention over random tensors with these key ranges. */
export function attentionCase(shape: Shape): KernelCase<AttentionVariant> {
  const { name, heads, kvHeads, headDim, ranges, softcap, sunk = false, keys, bench = false } = shape;
  const queries = ranges.length / 2;
  const rows = keys ?? queries;
  let pairs = 0;
  for (let t = 0; t < queries; t++) pairs += ranges[2 * t + 1]! - ranges[2 * t]!;
  return {
    kernel: 'attention',
    name: `${name}, heads ${heads}/${kvHeads} x ${headDim}${softcap ? `, capped to ${softcap}` : ''}${sunk ? ', sinks' : ''}`,
    flops: 4 * pairs * heads * headDim,
    bytes: 8 * (queries * heads + rows * kvHeads) * headDim,
    bench,
    tolerance: 2e-6,
    variants: device => attentionVariants(device, { queries, keys: rows, heads, kvHeads }),
    async setup(scope: Scope) {
      const q = await caseTensor(scope, normals(queries * heads * headDim, 1), [queries, heads * headDim]);
      const k = await caseTensor(scope, normals(rows * kvHeads * headDim, 2), [rows, kvHeads * headDim]);
      const v = await caseTensor(scope, normals(rows * kvHeads * headDim, 3), [rows, kvHeads * headDim]);
      const bounds = scope.own(tensorFrom(scope.device, ranges, [queries, 2]));
      const output = scope.tensor([queries, heads * headDim]);
      const sinks = sunk ? await caseTensor(scope, normals(heads, 4), [heads]) : undefined;
      // Three times the usual scale: some softmax weights are near 1.
      const options = { heads, kvHeads, headDim, scale: 3 / Math.sqrt(headDim), ...(softcap && { softcap }) };
      return {
        run: (rec, variant) =>
          attention(rec, q.tensor, k.tensor, v.tensor, bounds, output, {
            ...options,
            variant,
            ...(sinks && { sinks: sinks.tensor }),
          }),
        output,
        reference: () => ({
          expected: attentionF64(q.values, k.values, v.values, ranges, options, sinks?.values),
        }),
      };
    },
  };
}

const shapes: Shape[] = [
  { name: 'causal 1', heads: 4, kvHeads: 4, headDim: 16, ranges: causalRanges([1]) },
  { name: 'causal 7', heads: 4, kvHeads: 2, headDim: 32, ranges: causalRanges([7]) },
  { name: 'causal 129', heads: 9, kvHeads: 3, headDim: 64, ranges: causalRanges([129]) },
  {
    name: 'packed 5+64+1+70+31',
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    ranges: causalRanges([5, 64, 1, 70, 31]),
  },
  { name: 'packed 40+41', heads: 4, kvHeads: 4, headDim: 128, ranges: causalRanges([40, 41]) },
  { name: 'packed 30+9', heads: 8, kvHeads: 1, headDim: 16, ranges: causalRanges([30, 9]) },
  { name: 'causal 20', heads: 5, kvHeads: 1, headDim: 20, ranges: causalRanges([20]) },
  { name: 'causal 33', heads: 2, kvHeads: 1, headDim: 256, ranges: causalRanges([33]) },
  { name: 'mutual 50+1+17', heads: 4, kvHeads: 4, headDim: 80, ranges: mutualRanges([50, 1, 17]) },
  { name: 'mutual 3', heads: 3, kvHeads: 3, headDim: 112, ranges: mutualRanges([3]) },
  { name: 'causal 70+9', heads: 4, kvHeads: 2, headDim: 64, ranges: causalRanges([70, 9]), softcap: 3 },
  {
    name: 'decode 2 of 700',
    heads: 6,
    kvHeads: 2,
    headDim: 64,
    ranges: Uint32Array.of(0, 699, 100, 700),
    keys: 700,
    softcap: 5,
  },
  {
    name: 'window 17 of 100+50',
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    ranges: causalRanges([100, 50], 17),
  },
  {
    name: 'some empty ranges',
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    ranges: Uint32Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? 3 : Math.max(3, (i - 1) / 2))),
  },
  {
    name: 'decode 1 of 1000',
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    ranges: Uint32Array.of(0, 1000),
    keys: 1000,
    bench: true,
  },
  {
    name: 'decode 1 of 4000',
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    ranges: Uint32Array.of(0, 4000),
    keys: 4000,
    bench: true,
  },
  {
    name: 'decode 4 of 3000, some windows, one empty',
    heads: 14,
    kvHeads: 2,
    headDim: 64,
    ranges: Uint32Array.of(0, 2997, 2900, 2998, 17, 17, 1001, 3000),
    keys: 3000,
  },
  {
    name: 'decode 3 of 300, cache of 512',
    heads: 12,
    kvHeads: 2,
    headDim: 128,
    ranges: Uint32Array.of(0, 298, 0, 299, 0, 300),
    keys: 512,
  },
  {
    name: 'window 17 of 60+5',
    heads: 6,
    kvHeads: 2,
    headDim: 64,
    ranges: causalRanges([60, 5], 17),
    sunk: true,
  },
  {
    name: 'decode 2 of 700, one empty',
    heads: 6,
    kvHeads: 2,
    headDim: 64,
    ranges: Uint32Array.of(0, 699, 17, 17),
    keys: 700,
    sunk: true,
  },
  {
    name: 'causal 256',
    heads: 9,
    kvHeads: 3,
    headDim: 64,
    ranges: causalRanges([256]),
    bench: true,
  },
];

export const attentionCases: readonly KernelCase<AttentionVariant>[] = shapes.map(attentionCase);
