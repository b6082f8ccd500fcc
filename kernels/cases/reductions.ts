import { type Recorder, type Tensor, tensorFrom } from '../../engine/index.js';
import { rowDots } from '../reduce/named.js';
import { argmax } from '../reductions/argmax.js';
import { cosineDistance } from '../reductions/cosineDistance.js';
import { meanMagnitudes } from '../reductions/meanMagnitudes.js';
import { rowNorms } from '../reductions/rowNorms.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

type Shape = readonly [rows: number, columns: number];

interface Reduction {
  kernel: string;
  shape: Shape;
  flops: number;
  tolerance: number;
  run(rec: Recorder, x: Tensor, out: Tensor): void;
  host(row: Float64Array): number;
  values?(i: number, normal: number): number;
  note?: string;
  bench?: boolean;
}

/** A case of a kernel that reduces each row of a matrix to one number. */
function reductionCase(item: Reduction): KernelCase {
  const { kernel, shape, values = (_, x) => x, note } = item;
  const [rows, columns] = shape;
  return {
    kernel,
    name: `${rows}x${columns}${note ? `, ${note}` : ''}`,
    flops: item.flops * rows * columns,
    bytes: 4 * rows * (columns + 1),
    bench: item.bench ?? false,
    tolerance: item.tolerance,
    async setup(scope) {
      const data = normals(rows * columns).map((x, i) => values(i, x));
      const x = await caseTensor(scope, data, shape);
      const output = scope.tensor([rows], kernel === 'argmax' ? 'u32' : 'f32');
      return {
        run: rec => item.run(rec, x.tensor, output),
        output,
        reference: () => ({
          expected: Float64Array.from({ length: rows }, (_, row) =>
            item.host(Float64Array.from(x.values.subarray(row * columns, (row + 1) * columns))),
          ),
        }),
      };
    },
  };
}

/** Means over as many ranges of rows, with a row between them where there are enough. */
function meanMagnitudesCase([rows, columns]: Shape, ranges: number, bench = false): KernelCase {
  const step = Math.floor(rows / ranges);
  const bounds = Array.from(
    { length: ranges },
    (_, s) => [s * step, (s + 1) * step - (step > 1 ? 1 : 0)] as const,
  );
  return {
    kernel: 'meanMagnitudes',
    name: `${rows}x${columns}, ${ranges} ranges`,
    flops: 2 * rows * columns,
    bytes: 4 * (rows + ranges) * columns,
    bench,
    tolerance: 1e-6,
    async setup(scope) {
      const x = await caseTensor(scope, normals(rows * columns), [rows, columns]);
      const places = scope.own(tensorFrom(scope.device, Uint32Array.from(bounds.flat()), [ranges, 2]));
      const output = scope.tensor([ranges, columns]);
      return {
        run: rec => meanMagnitudes(rec, x.tensor, places, output),
        output,
        reference: () => ({
          expected: Float64Array.from({ length: ranges * columns }, (_, i) => {
            const [first, end] = bounds[Math.floor(i / columns)]!;
            let sum = 0;
            for (let row = first; row < end; row++) sum += Math.abs(x.values[row * columns + (i % columns)]!);
            return sum / (end - first);
          }),
        }),
      };
    },
  };
}

const largest = (row: Float64Array): number => row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);

const norm = (row: Float64Array): number => Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));

const reductions = (shape: Shape, bench = false): KernelCase[] => [
  reductionCase({ kernel: 'rowNorms', shape, flops: 2, tolerance: 1e-6, run: rowNorms, host: norm, bench }),
  reductionCase({
    kernel: 'argmax',
    shape,
    flops: 1,
    tolerance: 0,
    run: argmax,
    host: row => row.indexOf(largest(row)),
    bench,
  }),
];

/** b = a + noise * normal numbers, all times `spread`; `zero` makes some rows of one or both zero. */
function cosineCase(
  [rows, columns]: Shape,
  noise: number,
  spread = 1,
  zero = false,
  bench = false,
): KernelCase {
  return {
    kernel: 'cosineDistance',
    name: `${rows}x${columns}, noise ${noise}${spread === 1 ? '' : `, values of ${spread}`}${zero ? ', zero rows' : ''}`,
    flops: 9 * rows * columns,
    bytes: 8 * rows * columns,
    bench,
    // Normalised by sqrt(rows): the root mean square of the absolute errors.
    tolerance: 3e-7,
    async setup(scope) {
      const size = rows * columns;
      const [x, y] = [normals(size, 1), normals(size, 2)];
      const zeroRow = (i: number, every: number) => zero && Math.floor(i / columns) % every === 0;
      const a = await caseTensor(
        scope,
        x.map((value, i) => (zeroRow(i, 2) ? 0 : value * spread)),
        [rows, columns],
      );
      const b = await caseTensor(
        scope,
        x.map((value, i) => (zeroRow(i, 3) ? 0 : (value + noise * y[i]!) * spread)),
        [rows, columns],
      );
      const output = scope.tensor([rows]);
      return {
        run: rec => cosineDistance(rec, a.tensor, b.tensor, output),
        output,
        reference() {
          const expected = new Float64Array(rows);
          for (let row = 0; row < rows; row++) {
            const slice = (values: Float32Array) =>
              Float64Array.from(values.subarray(row * columns, (row + 1) * columns));
            const [p, q] = [slice(a.values), slice(b.values)];
            const lengths = norm(p) * norm(q);
            const dot = p.reduce((sum, value, j) => sum + value * q[j]!, 0);
            expected[row] = lengths > 0 ? 1 - dot / lengths : 1;
          }
          return { expected, scale: Math.sqrt(rows) };
        },
      };
    },
  };
}

const dotCase = ([rows, columns]: Shape): KernelCase => ({
  kernel: 'rowDots',
  name: `${rows}x${columns}`,
  flops: 2 * rows * columns,
  bytes: 8 * rows * columns,
  bench: columns === 576,
  tolerance: 1e-6,
  async setup(scope) {
    const size = rows * columns;
    const [a, b] = [
      await caseTensor(scope, normals(size, 1), [rows, columns]),
      await caseTensor(scope, normals(size, 2), [rows, columns]),
    ];
    const output = scope.tensor([rows]);
    return {
      run: rec => rowDots(rec, a.tensor, b.tensor, output),
      output,
      reference() {
        const expected = new Float64Array(rows);
        for (const [i, value] of a.values.entries())
          expected[Math.floor(i / columns)]! += value * b.values[i]!;
        return { expected };
      },
    };
  },
});

export const reductionCases: KernelCase[] = [
  ...reductions([1, 1]),
  ...reductions([7, 129]),
  ...reductions([129, 576], true),
  ...reductions([3, 1000]),
  ...(
    [
      [1, 1],
      [7, 129],
      [129, 576],
      [3, 1000],
    ] as const
  ).map(dotCase),
  reductionCase({
    kernel: 'argmax',
    shape: [7, 1000],
    note: 'equal values',
    flops: 1,
    tolerance: 0,
    run: argmax,
    host: row => row.indexOf(largest(row)),
    values: (_, x) => Math.round(x),
  }),
  reductionCase({
    kernel: 'argmax',
    shape: [7, 129],
    note: 'all below zero',
    flops: 1,
    tolerance: 0,
    run: argmax,
    host: row => row.indexOf(largest(row)),
    values: (_, x) => -1e30 - Math.abs(x) * 1e30,
  }),
  reductionCase({
    kernel: 'argmax',
    shape: [3, 10_000],
    note: 'in chunks, equal values',
    flops: 1,
    tolerance: 0,
    run: argmax,
    host: row => row.indexOf(largest(row)),
    values: (_, x) => Math.trunc(2 * x) - 10,
  }),
  reductionCase({
    kernel: 'argmax',
    shape: [2, 49_152],
    note: 'in chunks',
    flops: 1,
    tolerance: 0,
    run: argmax,
    host: row => row.indexOf(largest(row)),
    bench: true,
  }),
  ...[1e30, 1e-30].map(spread =>
    reductionCase({
      kernel: 'rowNorms',
      shape: [7, 576],
      note: `values of ${spread}`,
      flops: 2,
      tolerance: 1e-6,
      run: rowNorms,
      host: norm,
      values: (_, x) => x * spread,
    }),
  ),
  meanMagnitudesCase([1, 1], 1),
  meanMagnitudesCase([7, 129], 3),
  meanMagnitudesCase([1000, 576], 4, true),
  cosineCase([1, 1], 0.5),
  cosineCase([7, 129], 10),
  cosineCase([129, 576], 0.3, 1, false, true),
  cosineCase([129, 576], 1e-3),
  cosineCase([7, 1000], 0),
  cosineCase([7, 576], 0.1, 1e30),
  cosineCase([7, 576], 0.1, 1e-30),
  cosineCase([8, 129], 0.1, 1, true),
];
