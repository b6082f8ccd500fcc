import { tensorFrom } from '../../engine/index.js';
import type { AttentionOptions } from '../attention/attention.js';
import { attention } from '../attention/attention.js';
import { attentionBackward } from '../attentionBackward/attentionBackward.js';
import { causalRanges, mutualRanges } from './attention.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

type Values = ArrayLike<number>;

/** Gradients of sum(gradient * out) by q, k and v in f64, from the definition. */
function gradientsF64(
  [q, k, v, gradient]: readonly [q: Values, k: Values, v: Values, gradient: Values],
  ranges: Uint32Array,
  { heads, kvHeads, headDim, scale, softcap }: AttentionOptions,
): Record<'q' | 'k' | 'v', Float64Array> {
  const [dq, dk, dv] = [new Float64Array(q.length), new Float64Array(k.length), new Float64Array(v.length)];
  const dot = (a: Values, i: number, b: Values, j: number) => {
    let sum = 0;
    for (let d = 0; d < headDim; d++) sum += a[i + d]! * b[j + d]!;
    return sum;
  };
  for (let at = 0; at < q.length; at += headDim) {
    const t = Math.floor(at / (heads * headDim));
    const kvHead = Math.floor((((at / headDim) % heads) * kvHeads) / heads);
    const [start, end] = [ranges[2 * t]!, ranges[2 * t + 1]!];
    const keys = Array.from(
      { length: Math.max(0, end - start) },
      (_, i) => ((start + i) * kvHeads + kvHead) * headDim,
    );
    const cap = (x: number) => (softcap ? softcap * Math.tanh(x / softcap) : x);
    const scores = keys.map(key => cap(scale * dot(q, at, k, key)));
    const most = Math.max(...scores);
    const exponentials = scores.map(score => Math.exp(score - most));
    const total = exponentials.reduce((a, b) => a + b, 0);
    const weights = exponentials.map(value => value / total);
    const slopes = keys.map(key => dot(gradient, at, v, key));
    const mean = weights.reduce((sum, weight, i) => sum + weight * slopes[i]!, 0);
    keys.forEach((key, i) => {
      const capSlope = softcap ? 1 - (scores[i]! / softcap) ** 2 : 1;
      const slope = weights[i]! * (slopes[i]! - mean) * scale * capSlope;
      for (let d = 0; d < headDim; d++) {
        dq[at + d]! += slope * k[key + d]!;
        dk[key + d]! += slope * q[at + d]!;
        dv[key + d]! += weights[i]! * gradient[at + d]!;
      }
    });
  }
  return { q: dq, k: dk, v: dv };
}

interface Shape {
  name: string;
  heads: number;
  kvHeads: number;
  headDim: number;
  ranges: Uint32Array;
  softcap?: number;
  /** Key rows; default: one per query. */
  keys?: number;
  bench?: boolean;
}

function attentionBackwardCase(shape: Shape, result: 'q' | 'k' | 'v'): KernelCase {
  const { name, heads, kvHeads, headDim, ranges, softcap, bench = false } = shape;
  const queries = ranges.length / 2;
  const keys = shape.keys ?? queries;
  let pairs = 0;
  for (let t = 0; t < queries; t++) pairs += ranges[2 * t + 1]! - ranges[2 * t]!;
  return {
    kernel: 'attentionBackward',
    name: `${result} of ${name}, heads ${heads}/${kvHeads} x ${headDim}${softcap ? `, capped to ${softcap}` : ''}`,
    flops: 16 * pairs * heads * headDim,
    bytes: 4 * (6 * queries * heads + 6 * keys * kvHeads) * headDim,
    bench,
    tolerance: 3e-6,
    async setup(scope) {
      const [columns, kvColumns] = [heads * headDim, kvHeads * headDim];
      const q = await caseTensor(scope, normals(queries * columns, 1), [queries, columns]);
      const k = await caseTensor(scope, normals(keys * kvColumns, 2), [keys, kvColumns]);
      const v = await caseTensor(scope, normals(keys * kvColumns, 3), [keys, kvColumns]);
      const gradient = await caseTensor(scope, normals(queries * columns, 4), [queries, columns]);
      const bounds = scope.own(tensorFrom(scope.device, ranges, [queries, 2]));
      // Three times the usual scale: some softmax weights are near 1.
      const options = { heads, kvHeads, headDim, scale: 3 / Math.sqrt(headDim), ...(softcap && { softcap }) };
      const out = scope.tensor([queries, columns]);
      attention(scope.device.recorder, q.tensor, k.tensor, v.tensor, bounds, out, options);
      const gradients = {
        q: scope.tensor([queries, columns]),
        k: scope.tensor([keys, kvColumns]),
        v: scope.tensor([keys, kvColumns]),
      };
      const inputs = { q: q.tensor, k: k.tensor, v: v.tensor, ranges: bounds, out };
      return {
        run: rec => attentionBackward(rec, inputs, gradient.tensor, gradients, options),
        output: gradients[result],
        reference: () => ({
          expected: gradientsF64([q.values, k.values, v.values, gradient.values], ranges, options)[result],
          // With a single key, dq and dk are zero except for the rounding of g v^T - D.
          ...(pairs === queries ? { scale: Math.sqrt(queries * columns) } : {}),
        }),
      };
    },
  };
}

const shapes: Shape[] = [
  { name: 'causal 1', heads: 4, kvHeads: 4, headDim: 16, ranges: causalRanges([1]) },
  { name: 'causal 7', heads: 4, kvHeads: 2, headDim: 32, ranges: causalRanges([7]) },
  {
    name: 'packed 5+64+1+70+31',
    heads: 6,
    kvHeads: 2,
    headDim: 64,
    ranges: causalRanges([5, 64, 1, 70, 31]),
  },
  { name: 'causal 40+9', heads: 4, kvHeads: 2, headDim: 16, ranges: causalRanges([40, 9]), softcap: 3 },
  { name: 'mutual 50+1+17', heads: 2, kvHeads: 2, headDim: 16, ranges: mutualRanges([50, 1, 17]) },
  { name: 'packed 40+41', heads: 4, kvHeads: 4, headDim: 128, ranges: causalRanges([40, 41]) },
  { name: 'packed 30+9', heads: 8, kvHeads: 1, headDim: 16, ranges: causalRanges([30, 9]) },
  { name: 'causal 20', heads: 5, kvHeads: 1, headDim: 20, ranges: causalRanges([20]) },
  { name: 'causal 33', heads: 2, kvHeads: 1, headDim: 256, ranges: causalRanges([33]) },
  { name: 'window 17 of 100+50', heads: 4, kvHeads: 2, headDim: 64, ranges: causalRanges([100, 50], 17) },
  {
    name: 'some empty ranges, keys unseen and in other orders',
    heads: 4,
    kvHeads: 2,
    headDim: 64,
    keys: 90,
    ranges: Uint32Array.from({ length: 80 }, (_, i) =>
      i % 2 === 0 ? 3 : [70, 3, 41, 80][((i - 1) / 2) % 4]!,
    ),
  },
  { name: 'causal 256', heads: 9, kvHeads: 3, headDim: 64, ranges: causalRanges([256]), bench: true },
];

export const attentionBackwardCases: readonly KernelCase[] = shapes.flatMap(shape =>
  (shape.bench ? (['q'] as const) : (['q', 'k', 'v'] as const)).map(result =>
    attentionBackwardCase(shape, result),
  ),
);
