import { byteSize } from '../../engine/index.js';
import { layerNorm } from '../norms/layerNorm.js';
import { rmsNorm } from '../norms/rmsNorm.js';
import type { FloatType } from '../shared/checks.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

interface NormCase {
  rows: number;
  columns: number;
  /** Dtype of gain or weight. */
  dtype: FloatType;
  /** Standard deviation and mean of the values; default 1 and 0. */
  spread?: number;
  mean?: number;
  /** The offset of rmsNorm's gain. */
  offset?: number;
  /** layerNorm has a bias, of this dtype. */
  bias?: FloatType;
  bench?: boolean;
}

const eps = 1e-5;

const normName = ({ rows, columns, dtype, spread = 1, mean = 0 }: NormCase): string =>
  `${rows}x${columns}, ${dtype}${spread === 1 ? '' : `, values of ${spread}`}${mean ? ` around ${mean}` : ''}`;

function rmsNormCase(item: NormCase): KernelCase {
  const { rows, columns, dtype, spread = 1, offset = 0, bench = false } = item;
  return {
    kernel: 'rmsNorm',
    name: `${normName(item)}${offset ? `, gain from ${offset}` : ''}`,
    flops: 4 * rows * columns,
    bytes: 8 * rows * columns + byteSize(dtype) * columns,
    bench,
    tolerance: 1e-6,
    async setup(scope) {
      const x = await caseTensor(
        scope,
        normals(rows * columns).map(value => value * spread),
        [rows, columns],
      );
      const gain = await caseTensor(scope, normals(columns, 2), [columns], dtype);
      const output = scope.tensor([rows, columns]);
      return {
        run: rec => rmsNorm(rec, x.tensor, gain.tensor, output, eps, offset),
        output,
        reference() {
          const expected = new Float64Array(rows * columns);
          for (let row = 0; row < rows; row++) {
            const values = x.values.subarray(row * columns, (row + 1) * columns);
            let squares = 0;
            for (const value of values) squares += value * value;
            const factor = 1 / Math.sqrt(squares / columns + eps);
            values.forEach((value, j) => {
              expected[row * columns + j] = value * factor * (gain.values[j]! + offset);
            });
          }
          return { expected };
        },
      };
    },
  };
}

function layerNormCase(item: NormCase): KernelCase {
  const { rows, columns, dtype, spread = 1, mean = 0, bias, bench = false } = item;
  return {
    kernel: 'layerNorm',
    name: `${normName(item)}${bias ? `, bias ${bias}` : ''}`,
    flops: 8 * rows * columns,
    bytes: 8 * rows * columns + (byteSize(dtype) + (bias ? byteSize(bias) : 0)) * columns,
    bench,
    // Subtracting a large mean leaves fewer digits.
    tolerance: 1e-6 * Math.max(1, Math.abs(mean) / spread),
    async setup(scope) {
      const x = await caseTensor(
        scope,
        normals(rows * columns).map(value => mean + value * spread),
        [rows, columns],
      );
      const weight = await caseTensor(scope, normals(columns, 2), [columns], dtype);
      const added = bias ? await caseTensor(scope, normals(columns, 3), [columns], bias) : undefined;
      const output = scope.tensor([rows, columns]);
      return {
        run: rec => layerNorm(rec, x.tensor, weight.tensor, added?.tensor, output, eps),
        output,
        reference() {
          const expected = new Float64Array(rows * columns);
          for (let row = 0; row < rows; row++) {
            const values = x.values.subarray(row * columns, (row + 1) * columns);
            let sum = 0;
            for (const value of values) sum += value;
            const centre = sum / columns;
            let squares = 0;
            for (const value of values) squares += (value - centre) ** 2;
            const factor = 1 / Math.sqrt(squares / columns + eps);
            values.forEach((value, j) => {
              expected[row * columns + j] =
                (value - centre) * factor * weight.values[j]! + (added?.values[j] ?? 0);
            });
          }
          return { expected };
        },
      };
    },
  };
}

export const normCases: KernelCase[] = [
  rmsNormCase({ rows: 1, columns: 1, dtype: 'f32' }),
  rmsNormCase({ rows: 1, columns: 7, dtype: 'bf16' }),
  rmsNormCase({ rows: 7, columns: 129, dtype: 'f16', offset: 1 }),
  rmsNormCase({ rows: 129, columns: 576, dtype: 'bf16', bench: true }),
  rmsNormCase({ rows: 7, columns: 1000, dtype: 'f32', spread: 1e-3 }),
  rmsNormCase({ rows: 7, columns: 1000, dtype: 'f32', spread: 1e4 }),
  // As for the norm of each query head.
  rmsNormCase({ rows: 70_000, columns: 8, dtype: 'bf16', offset: 1 }),
  layerNormCase({ rows: 1, columns: 1, dtype: 'f32', bias: 'f32' }),
  layerNormCase({ rows: 1, columns: 7, dtype: 'bf16' }),
  layerNormCase({ rows: 7, columns: 129, dtype: 'f16', bias: 'f32' }),
  layerNormCase({ rows: 129, columns: 576, dtype: 'bf16', bias: 'bf16', bench: true }),
  layerNormCase({ rows: 7, columns: 1000, dtype: 'f32', bias: 'f32', spread: 1e-3 }),
  layerNormCase({ rows: 7, columns: 1000, dtype: 'f32', spread: 1e4 }),
  layerNormCase({ rows: 7, columns: 576, dtype: 'f32', bias: 'f32', mean: 100 }),
];
