import type { Recorder, Tensor } from '../../engine/index.js';
import { padHeads } from '../attention/padHeads.js';
import { add, addInto, axpy, scale } from '../map/named.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

interface Binary {
  kernel: string;
  rows: number;
  columns: number;
  flops: number;
  tolerance: number;
  bench?: boolean;
  run(rec: Recorder, a: Tensor, b: Tensor, out: Tensor): void;
  host(a: number, b: number): number;
}

/** A kernel of two tensors of one shape; `run` may use `out` as scratch of in-place kernels. */
function binaryCase({ kernel, rows, columns, flops, tolerance, bench, run, host }: Binary): KernelCase {
  const size = rows * columns;
  return {
    kernel,
    name: `${rows}x${columns}`,
    flops: flops * size,
    bytes: 12 * size,
    bench: bench ?? false,
    tolerance,
    async setup(scope) {
      const a = await caseTensor(scope, normals(size, 1), [rows, columns]);
      const b = await caseTensor(scope, normals(size, 2), [rows, columns]);
      const output = scope.tensor([rows, columns]);
      return {
        run: rec => run(rec, a.tensor, b.tensor, output),
        output,
        reference: () => ({ expected: Float64Array.from(a.values, (x, i) => host(x, b.values[i]!)) }),
      };
    },
  };
}

/** Pads or cuts heads of `from` columns to `to` columns. */
const headsCase = (tokens: number, heads: number, from: number, to: number): KernelCase => ({
  kernel: 'padHeads',
  name: `${tokens} tokens, ${heads} heads of ${from} to ${to}`,
  flops: 0,
  bytes: 4 * tokens * heads * (from + to),
  bench: false,
  tolerance: 0,
  async setup(scope) {
    const x = await caseTensor(scope, normals(tokens * heads * from), [tokens, heads * from]);
    const output = scope.tensor([tokens, heads * to]);
    return {
      run: rec => padHeads(rec, x.tensor, heads, output),
      output,
      reference: () => ({
        expected: Float64Array.from({ length: output.size }, (_, i) => {
          const column = i % to;
          return column < from ? x.values[Math.floor(i / to) * from + column]! : 0;
        }),
      }),
    };
  },
});

export const elementwiseCases: KernelCase[] = [
  headsCase(7, 3, 10, 12),
  headsCase(129, 5, 12, 10),
  headsCase(1, 1, 1, 4),
  ...[
    { rows: 7, columns: 129 },
    { rows: 129, columns: 576, bench: true },
  ].flatMap(shape => [
    binaryCase({ ...shape, kernel: 'add', flops: 1, tolerance: 1e-7, run: add, host: (a, b) => a + b }),
    binaryCase({
      ...shape,
      kernel: 'addInto',
      bench: false,
      flops: 1,
      tolerance: 1e-7,
      run(rec, a, b, out) {
        rec.copy(a, out);
        addInto(rec, out, b);
      },
      host: (a, b) => a + b,
    }),
    binaryCase({
      ...shape,
      kernel: 'axpy and scale',
      bench: false,
      flops: 3,
      tolerance: 2e-7,
      run(rec, a, b, out) {
        rec.copy(b, out);
        axpy(rec, -2.5, a, out);
        scale(rec, out, 0.125);
      },
      host: (a, b) => 0.125 * (b - 2.5 * a),
    }),
  ]),
];
