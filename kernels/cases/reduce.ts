import type { DType } from '../../engine/index.js';
import type { Reduction } from '../reduce/operations.js';
import { reduce } from '../reduce/reduce.js';
import { logSoftmax, softmax } from '../reduce/softmax.js';
import { topK } from '../reduce/topK.js';
import type { KernelCase } from './case.js';
import { anyTensor, rounding, sizeOf } from './map.js';

type Shape = readonly number[];

interface ReduceCase {
  reduction: Reduction;
  shape: Shape;
  axis?: 'first' | 'last';
  dtype?: DType;
  out?: DType;
  accumulate?: boolean;
  host(elements: number[]): number;
  bench?: boolean;
}

const nameOf = (reduction: Reduction): string =>
  typeof reduction === 'string' ? reduction : `${reduction.combine} then ${reduction.finish}`;

/** Elements of each result, along an axis. */
function groupsOf(values: ArrayLike<number>, shape: Shape, axis: 'first' | 'last'): number[][] {
  const length = shape.at(axis === 'last' ? -1 : 0)!;
  const results = values.length / length;
  return Array.from({ length: results }, (_, r) =>
    Array.from({ length }, (_, i) => values[axis === 'last' ? r * length + i : i * results + r]!),
  );
}

function reduceCase(item: ReduceCase): KernelCase {
  const { reduction, shape, axis = 'last', dtype = 'f32', accumulate = false, host, bench = false } = item;
  const out = item.out ?? (dtype === 'u32' ? 'u32' : 'f32');
  const outShape = axis === 'last' ? shape.slice(0, -1) : shape.slice(1);
  const size = sizeOf(shape);
  return {
    kernel: 'reduce',
    name: `${nameOf(reduction)} ${axis} of ${shape.join('x')} ${dtype} to ${out}${accumulate ? ', added' : ''}`,
    flops: size,
    bytes: 4 * size,
    bench,
    tolerance: dtype === 'u32' ? 0 : { ...rounding, f32: 2e-6 }[out],
    async setup(scope) {
      const x = await anyTensor(scope, shape, dtype, 1);
      const output = await anyTensor(scope, outShape.length ? outShape : [1], out, 2);
      return {
        output: output.tensor,
        run: rec => reduce(rec, reduction, x.tensor, output.tensor, { axis, accumulate }),
        reference: () => ({
          expected: Float64Array.from(groupsOf(x.values, shape, axis), (elements, r) => {
            const result = host(elements);
            return accumulate ? result + output.values[r]! : result;
          }),
          // Sums are small beside their parts.
          ...(reduction === 'max' || reduction === 'min' || dtype === 'u32'
            ? {}
            : {
                scale: Math.sqrt(
                  groupsOf(x.values, shape, axis).reduce((sum, g) => sum + host(g.map(Math.abs)) ** 2, 0),
                ),
              }),
        }),
      };
    },
  };
}

const sum = (x: number[]) => x.reduce((a, b) => a + b, 0);
const largest = (x: number[]) => x.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
const smallest = (x: number[]) => x.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);

/** 1 - (1 - tanh^2 ...) would lose bits: the sum of squares, and its root. */
const rootOfSum: Reduction = { start: 0, combine: 'a + b', finish: 'sqrt(abs(total)) / count' };

const reductions = (shape: Shape, axis: 'first' | 'last', bench = false): KernelCase[] => [
  reduceCase({ reduction: 'sum', shape, axis, host: sum, bench }),
  reduceCase({ reduction: 'mean', shape, axis, dtype: 'bf16', out: 'f16', host: x => sum(x) / x.length }),
  reduceCase({ reduction: 'max', shape, axis, host: largest }),
  reduceCase({ reduction: 'min', shape, axis, dtype: 'f16', out: 'bf16', host: smallest }),
  reduceCase({ reduction: 'sum', shape, axis, dtype: 'u32', host: sum }),
  reduceCase({ reduction: 'max', shape, axis, dtype: 'u32', host: largest }),
  reduceCase({
    reduction: rootOfSum,
    shape,
    axis,
    host: x => Math.sqrt(Math.abs(sum(x))) / x.length,
  }),
];

function softmaxCase(shape: Shape, dtype: DType, out: DType, logarithm: boolean, bench = false): KernelCase {
  const size = sizeOf(shape);
  return {
    kernel: logarithm ? 'logSoftmax' : 'softmax',
    name: `${shape.join('x')} ${dtype} to ${out}`,
    flops: 8 * size,
    bytes: 8 * size,
    bench,
    tolerance: rounding[out],
    async setup(scope) {
      const x = await anyTensor(scope, shape, dtype, 1);
      const output = scope.tensor(shape, out);
      return {
        output,
        run: rec => (logarithm ? logSoftmax : softmax)(rec, x.tensor, output),
        reference: () => ({
          expected: Float64Array.from(
            groupsOf(x.values, shape, 'last').flatMap(row => {
              const most = largest(row);
              const total = sum(row.map(v => Math.exp(v - most)));
              return row.map(v => (logarithm ? v - most - Math.log(total) : Math.exp(v - most) / total));
            }),
          ),
        }),
      };
    },
  };
}

/** Values and places of the k largest, both in one output of u32 words. */
function topKCase(shape: Shape, k: number, dtype: DType, bench = false): KernelCase {
  const size = sizeOf(shape);
  const places = [...shape.slice(0, -1), k];
  return {
    kernel: 'topK',
    name: `${k} of ${shape.join('x')} ${dtype}`,
    flops: size,
    bytes: 4 * size,
    bench,
    tolerance: 0,
    async setup(scope) {
      const x = await anyTensor(scope, shape, dtype, 1);
      const values = scope.tensor(places, dtype);
      const indices = scope.tensor(places, 'u32');
      return {
        output: indices,
        run: rec => topK(rec, x.tensor, values, indices),
        reference: () => ({
          expected: Float64Array.from(
            groupsOf(x.values, shape, 'last').flatMap(row =>
              row
                .map((value, i) => ({ value, i }))
                .sort((a, b) => b.value - a.value || a.i - b.i)
                .slice(0, k)
                .map(({ i }) => i),
            ),
          ),
        }),
      };
    },
  };
}

export const reduceCases: KernelCase[] = [
  ...(['first', 'last'] as const).flatMap(axis => [
    ...reductions([1], axis),
    ...reductions([7, 129], axis),
    ...reductions([129, 576], axis, true),
  ]),
  // Long rows are divided; ranks above two; results added to what is there.
  reduceCase({ reduction: 'sum', shape: [3, 10_001], host: sum }),
  reduceCase({ reduction: 'max', shape: [2, 20_000], host: largest }),
  reduceCase({ reduction: 'mean', shape: [100_000], host: x => sum(x) / x.length }),
  reduceCase({ reduction: 'sum', shape: [20_000, 3], axis: 'first', host: sum }),
  reduceCase({ reduction: 'sum', shape: [3, 5, 12], host: sum, accumulate: true }),
  reduceCase({ reduction: 'sum', shape: [3, 5, 12], axis: 'first', host: sum, accumulate: true }),
  // More than 65,535 workgroups.
  reduceCase({ reduction: 'max', shape: [65_537, 3], host: largest }),
  reduceCase({ reduction: 'sum', shape: [1024, 1024], host: sum, bench: true }),
  ...[false, true].flatMap(logarithm => [
    softmaxCase([1], 'f32', 'f32', logarithm),
    softmaxCase([7, 129], 'f32', 'f32', logarithm),
    softmaxCase([3, 5, 12], 'bf16', 'f16', logarithm),
    softmaxCase([7, 129], 'f16', 'bf16', logarithm),
    softmaxCase([129, 576], 'f32', 'f32', logarithm, true),
  ]),
  softmaxCase([65_537, 2], 'f32', 'f32', false),
  topKCase([1], 1, 'f32'),
  topKCase([7, 129], 5, 'f32'),
  topKCase([129, 576], 8, 'bf16', true),
  topKCase([3, 5, 12], 12, 'u32'),
  topKCase([2, 20_001], 50, 'f32', true),
  topKCase([2, 3000], 1024, 'f16'),
];
