import { type DType, type Recorder, type Tensor, tensorFrom } from '../../engine/index.js';
import { gatherRows } from '../layout/gatherRows.js';
import { concat, slice, transpose } from '../layout/layout.js';
import { scatterAddRows } from '../layout/scatterAddRows.js';
import { matmul, matmulVariants } from '../matmul/matmul.js';
import { computesBatches } from '../matmul/variants.js';
import type { FloatType } from '../shared/checks.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';
import { anyTensor, rounding, sizeOf } from './map.js';
import { hostMatmul, type MatmulVariant, namedChoices } from './matmul.js';

type Shape = readonly number[];

/** The coordinates of element i of a shape. */
function coordinates(i: number, shape: Shape): number[] {
  const at = shape.map(() => 0);
  for (let d = shape.length - 1, rest = i; d >= 0; d--) {
    at[d] = rest % shape[d]!;
    rest = Math.floor(rest / shape[d]!);
  }
  return at;
}
const place = (at: readonly number[], shape: Shape): number =>
  at.reduce((sum, c, d) => sum * shape[d]! + c, 0);

interface Move {
  kernel: string;
  note: string;
  shapes: readonly Shape[];
  out: Shape;
  dtype?: DType;
  run(rec: Recorder, tensors: readonly Tensor[], out: Tensor): void;
  /** Where the element at these coordinates comes from: which tensor, and its place. */
  host(at: number[]): [tensor: number, place: number];
  bench?: boolean;
}

const moveCase = ({
  kernel,
  note,
  shapes,
  out,
  dtype = 'f32',
  run,
  host,
  bench = false,
}: Move): KernelCase => ({
  kernel,
  name: `${shapes.map(shape => shape.join('x')).join(', ')} ${dtype}, ${note}`,
  flops: 0,
  bytes: 8 * sizeOf(out),
  bench,
  tolerance: 0,
  async setup(scope) {
    const given: Awaited<ReturnType<typeof anyTensor>>[] = [];
    for (const [i, shape] of shapes.entries()) given.push(await anyTensor(scope, shape, dtype, i + 1));
    const output = scope.tensor(out, dtype);
    return {
      output,
      run: rec =>
        run(
          rec,
          given.map(({ tensor }) => tensor),
          output,
        ),
      reference: () => ({
        expected: Float64Array.from({ length: output.size }, (_, i) => {
          const [tensor, at] = host(coordinates(i, out));
          return given[tensor]!.values[at]!;
        }),
      }),
    };
  },
});

const transposeCase = (shape: Shape, axes: readonly number[], dtype: DType = 'f32', bench = false) =>
  moveCase({
    kernel: 'transpose',
    note: `axes ${axes.join()}`,
    shapes: [shape],
    out: axes.map(d => shape[d]!),
    dtype,
    bench,
    run: (rec, [x], out) => transpose(rec, x!, out, axes),
    host: at => [
      0,
      place(
        shape.map((_, d) => at[axes.indexOf(d)]!),
        shape,
      ),
    ],
  });

const sliceCase = (
  shape: Shape,
  axis: number,
  start: number,
  count: number,
  step: number,
  dtype: DType = 'f32',
) =>
  moveCase({
    kernel: 'slice',
    note: `${count} from ${start} of axis ${axis} by ${step}`,
    shapes: [shape],
    out: shape.map((extent, d) => (d === axis ? count : extent)),
    dtype,
    run: (rec, [x], out) => slice(rec, x!, out, { axis, start, step }),
    host: at => [
      0,
      place(
        at.map((c, d) => (d === axis ? start + c * step : c)),
        shape,
      ),
    ],
  });

function concatCase(shapes: readonly Shape[], axis: number, dtype: DType = 'f32', bench = false): KernelCase {
  const extents = shapes.map(shape => shape[axis]!);
  return moveCase({
    kernel: 'concat',
    note: `axis ${axis}`,
    shapes,
    out: shapes[0]!.map((extent, d) => (d === axis ? extents.reduce((a, b) => a + b) : extent)),
    dtype,
    bench,
    run: (rec, tensors, out) => concat(rec, tensors, out, { axis }),
    host(at) {
      let [tensor, rest] = [0, at[axis]!];
      while (rest >= extents[tensor]!) rest -= extents[tensor++]!;
      return [
        tensor,
        place(
          at.map((c, d) => (d === axis ? rest : c)),
          shapes[tensor]!,
        ),
      ];
    },
  });
}

const idsOf = (count: number, below: number) =>
  Uint32Array.from(normals(count, 9), x => Math.floor(Math.abs(x) * 1000) % below);

const gatherCase = (rows: number, columns: number, count: number, dtype: DType, out: DType): KernelCase => ({
  kernel: 'gatherRows',
  name: `${count} of ${rows}x${columns} ${dtype} to ${out}`,
  flops: 0,
  bytes: 8 * count * columns,
  bench: false,
  tolerance: rounding[out],
  async setup(scope) {
    const table = await anyTensor(scope, [rows, columns], dtype, 1);
    const ids = idsOf(count, rows);
    const at = scope.own(tensorFrom(scope.device, ids));
    const output = scope.tensor([count, columns], out);
    return {
      output,
      run: rec => gatherRows(rec, table.tensor, at, output),
      reference: () => ({
        expected: Float64Array.from(
          { length: output.size },
          (_, i) => table.values[ids[Math.floor(i / columns)]! * columns + (i % columns)]!,
        ),
      }),
    };
  },
});

const scatterCase = (rows: number, columns: number, count: number, dtype: DType, out: DType): KernelCase => ({
  kernel: 'scatterAddRows',
  name: `${count}x${columns} ${dtype} to ${rows} rows ${out}`,
  flops: count * columns,
  bytes: 12 * count * columns,
  bench: false,
  tolerance: rounding[out],
  async setup(scope) {
    const x = await anyTensor(scope, [count, columns], dtype, 1);
    // Some ids name no row.
    const ids = idsOf(count, rows + 1);
    const at = scope.own(tensorFrom(scope.device, ids));
    const target = await anyTensor(scope, [rows, columns], out, 2);
    return {
      output: target.tensor,
      run: rec => scatterAddRows(rec, x.tensor, at, target.tensor),
      reference() {
        const expected = Float64Array.from(target.values);
        for (let i = 0; i < x.values.length; i++) {
          const row = ids[Math.floor(i / columns)]!;
          if (row < rows) expected[row * columns + (i % columns)]! += x.values[i]!;
        }
        return { expected };
      },
    };
  },
});

interface BatchCase {
  form: 'NN' | 'NT' | 'TN';
  batches: number;
  m: number;
  n: number;
  k: number;
  b?: FloatType;
  /** One left matrix for all. */
  shared?: boolean;
  extras?: boolean;
  bench?: boolean;
}

/** A batch of products; error as in the cases of matmul. */
function batchCase({
  form,
  batches,
  m,
  n,
  k,
  b = 'f32',
  shared = false,
  extras = false,
  bench = false,
}: BatchCase): KernelCase<MatmulVariant> {
  const [transposeA, transposeB] = [form === 'TN', form === 'NT'];
  const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
  return {
    kernel: 'matmul',
    name: `${batches} of ${form} ${m}x${n}x${k} f32 x ${b}${shared ? ', one left matrix' : ''}${extras ? ' + bias + residual + out' : ''}`,
    flops: 2 * batches * m * n * k,
    bytes: 4 * batches * (m * k + n * k + m * n),
    bench,
    tolerance: 1e-6,
    variants: device =>
      namedChoices(
        matmulVariants(device, { m, n, k, transposeA, transposeB }, { a: 'f32', b }).filter(computesBatches),
      ),
    async setup(scope) {
      const one = transposeA ? [k, m] : [m, k];
      const left = await caseTensor(
        scope,
        normals((shared ? 1 : batches) * m * k, 1),
        shared ? one : [batches, ...one],
      );
      const right = await caseTensor(
        scope,
        normals(batches * n * k, 2),
        transposeB ? [batches, n, k] : [batches, k, n],
        b,
      );
      const bias = await caseTensor(scope, normals(n, 3), [n]);
      const residual = await caseTensor(scope, normals(batches * m * n, 5), [batches, m, n]);
      const out = await caseTensor(scope, normals(batches * m * n, 4), [batches, m, n]);
      const more = extras ? { bias: bias.tensor, residual: residual.tensor, accumulate: true } : {};
      return {
        output: out.tensor,
        run: (rec, variant) =>
          matmul(rec, left.tensor, right.tensor, out.tensor, {
            transposeA,
            transposeB,
            ...more,
            ...(variant && { variant: variant.choice }),
          }),
        reference: () => {
          const expected = new Float64Array(batches * m * n);
          for (let batch = 0; batch < batches; batch++) {
            const a = shared ? left.values : left.values.subarray(batch * m * k, (batch + 1) * m * k);
            const start = Float64Array.from({ length: m * n }, (_, i) =>
              extras
                ? bias.values[i % n]! + residual.values[batch * m * n + i]! + out.values[batch * m * n + i]!
                : 0,
            );
            const of = right.values.subarray(batch * n * k, (batch + 1) * n * k);
            expected.set(hostMatmul({ m, n, k, form }, a, of, start), batch * m * n);
          }
          return { expected, scale: norm(left.values) * norm(right.values) };
        },
      };
    },
  };
}

export const batchCases: KernelCase<MatmulVariant>[] = [
  batchCase({ form: 'NN', batches: 3, m: 7, n: 33, k: 61, extras: true }),
  batchCase({ form: 'NT', batches: 5, m: 3, n: 33, k: 61, b: 'bf16' }),
  batchCase({ form: 'TN', batches: 2, m: 36, n: 68, k: 24, shared: true }),
  batchCase({ form: 'NT', batches: 1, m: 1, n: 1, k: 1 }),
  batchCase({ form: 'NT', batches: 9, m: 128, n: 128, k: 64, bench: true }),
];

export const layoutCases: KernelCase[] = [
  transposeCase([1, 1], [1, 0]),
  transposeCase([7, 129], [1, 0]),
  transposeCase([129, 8], [1, 0], 'bf16'),
  transposeCase([3, 5, 4], [2, 0, 1], 'f16'),
  transposeCase([3, 4, 5, 6], [0, 2, 1, 3], 'u32'),
  transposeCase([512, 512], [1, 0], 'f32', true),
  sliceCase([7, 129], 1, 5, 33, 1),
  sliceCase([5, 16], 1, 4, 8, 1, 'bf16'),
  sliceCase([5, 17], 1, 1, 5, 3, 'f16'),
  sliceCase([6, 3, 5], 1, 1, 2, 1, 'u32'),
  concatCase([[1], [1]], 0),
  concatCase(
    [
      [7, 3],
      [7, 5],
      [7, 129],
    ],
    1,
    'bf16',
  ),
  concatCase(
    [
      [3, 8],
      [3, 4],
    ],
    1,
    'f16',
  ),
  concatCase(
    [
      [2, 3, 5],
      [2, 1, 5],
    ],
    1,
    'u32',
  ),
  concatCase(
    Array.from({ length: 17 }, (_, i) => [3, i + 1]),
    1,
  ),
  concatCase(
    [
      [256, 512],
      [256, 512],
    ],
    1,
    'f32',
    true,
  ),
  gatherCase(101, 576, 129, 'bf16', 'f32'),
  gatherCase(7, 5, 33, 'f32', 'f16'),
  gatherCase(7, 5, 33, 'u32', 'u32'),
  gatherCase(1, 1, 1, 'f16', 'bf16'),
  scatterCase(7, 5, 33, 'f32', 'f32'),
  scatterCase(3, 8, 129, 'bf16', 'f16'),
  scatterCase(5, 4, 5000, 'u32', 'u32'),
  // More rows than are compared at a time.
  scatterCase(70_000, 1, 9000, 'f32', 'f32'),
];
