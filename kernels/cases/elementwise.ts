import type { Recorder, Tensor } from '../../engine/index.js';
import { add, addInto, axpy, scale } from '../elementwise.js';
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

export const elementwiseCases: KernelCase[] = [
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
