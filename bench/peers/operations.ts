/** The operations that all programs compute, with their inputs, and results in f64. */
import { seededRandom } from '../../engine/random.js';

/** An operation: what it computes stands in `operations`. */
export interface OperationTask {
  readonly task: 'operation';
  readonly operation: OperationName;
}

interface Operation {
  /** What it computes, for the table. */
  readonly title: string;
  /** Shapes of its f32 inputs, in their order. */
  readonly shapes: readonly (readonly number[])[];
  /** Row numbers of `gatherRows` and `scatterAddRows`. */
  readonly ids?: { readonly count: number; readonly below: number };
  readonly out: readonly number[];
  /** GFLOP of a batched product. */
  readonly gflop?: number;
  host(inputs: readonly Float32Array[], ids: Uint32Array): ArrayLike<number>;
}

const SIDE = 1024;
const square = [SIDE, SIDE] as const;
const TOP = 8;
const WIDTH = 256;
export const TOP_ROWS = 64;

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

const rowsOf = (x: Float32Array, columns: number): number[][] =>
  Array.from({ length: x.length / columns }, (_, r) => [...x.subarray(r * columns, (r + 1) * columns)]);

const softmax = (row: number[]): number[] => {
  const most = row.reduce((a, b) => Math.max(a, b));
  const powers = row.map(x => Math.exp(x - most));
  const total = powers.reduce((a, b) => a + b);
  return powers.map(x => x / total);
};

const fill = (shape: readonly number[], value: (i: number) => number): Float64Array =>
  Float64Array.from({ length: sizeOf(shape) }, (_, i) => value(i));

export const operations = {
  map: {
    title: 'map sigmoid(z) - y, 1024x1024',
    shapes: [square, square],
    out: square,
    host: ([z, y]) => fill(square, i => 1 / (1 + Math.exp(-z![i]!)) - y![i]!),
  },
  mapRows: {
    title: 'map x * row + column, 1024x1024',
    shapes: [square, [1, SIDE], [SIDE, 1]],
    out: square,
    host: ([x, row, column]) => fill(square, i => x![i]! * row![i % SIDE]! + column![Math.floor(i / SIDE)]!),
  },
  sumLast: {
    title: 'reduce sum of rows, 1024x1024',
    shapes: [square],
    out: [SIDE],
    host: ([x]) => rowsOf(x!, SIDE).map(row => row.reduce((a, b) => a + b)),
  },
  maxFirst: {
    title: 'reduce max of columns, 1024x1024',
    shapes: [square],
    out: [SIDE],
    host: ([x]) => rowsOf(x!, SIDE).reduce((a, b) => a.map((value, j) => Math.max(value, b[j]!))),
  },
  softmax: {
    title: 'softmax, 1024x1024',
    shapes: [square],
    out: square,
    host: ([x]) => rowsOf(x!, SIDE).flatMap(softmax),
  },
  logSoftmax: {
    title: 'logSoftmax, 1024x1024',
    shapes: [square],
    out: square,
    host: ([x]) => rowsOf(x!, SIDE).flatMap(row => softmax(row).map(Math.log)),
  },
  topK: {
    title: 'topK 8, 64x4096',
    shapes: [[TOP_ROWS, 4096]],
    out: [TOP_ROWS, TOP],
    host: ([x]) => rowsOf(x!, 4096).flatMap(row => row.sort((a, b) => b - a).slice(0, TOP)),
  },
  transpose: {
    title: 'transpose, 1024x1024',
    shapes: [square],
    out: square,
    host: ([x]) => fill(square, i => x![(i % SIDE) * SIDE + Math.floor(i / SIDE)]!),
  },
  slice: {
    title: 'slice columns 256 to 767, 1024x1024',
    shapes: [square],
    out: [SIDE, 512],
    host: ([x]) => fill([SIDE, 512], i => x![Math.floor(i / 512) * SIDE + 256 + (i % 512)]!),
  },
  concat: {
    title: 'concat columns, 2 of 1024x512',
    shapes: [
      [SIDE, 512],
      [SIDE, 512],
    ],
    out: square,
    host: inputs =>
      fill(square, i => inputs[i % SIDE < 512 ? 0 : 1]![Math.floor(i / SIDE) * 512 + (i % 512)]!),
  },
  gatherRows: {
    title: 'gatherRows 2048 of 4096x256',
    shapes: [[4096, WIDTH]],
    ids: { count: 2048, below: 4096 },
    out: [2048, WIDTH],
    host: ([x], ids) => fill([2048, WIDTH], i => x![ids[Math.floor(i / WIDTH)]! * WIDTH + (i % WIDTH)]!),
  },
  scatterAddRows: {
    title: 'scatterAddRows 512 to 1024x256, from 0',
    shapes: [[512, WIDTH]],
    ids: { count: 512, below: 1024 },
    out: [1024, WIDTH],
    host: ([x], ids) => {
      const sums = new Float64Array(1024 * WIDTH);
      for (const [i, value] of x!.entries())
        sums[ids[Math.floor(i / WIDTH)]! * WIDTH + (i % WIDTH)]! += value;
      return sums;
    },
  },
  batchedMatmul: {
    title: 'matmul 12 of 256x256x64',
    shapes: [
      [12, 256, 64],
      [12, 64, 256],
    ],
    out: [12, 256, 256],
    gflop: (2 * 12 * 256 * 256 * 64) / 1e9,
    host: ([a, b]) => {
      const out = new Float64Array(12 * 256 * 256);
      for (let i = 0; i < 12 * 256; i++)
        for (let k = 0; k < 64; k++)
          for (let j = 0; j < 256; j++)
            out[i * 256 + j]! += a![i * 64 + k]! * b![(Math.floor(i / 256) * 64 + k) * 256 + j]!;
      return out;
    },
  },
} satisfies Record<string, Operation>;

export type OperationName = keyof typeof operations;

export const operationOf = ({ operation }: OperationTask): Operation => operations[operation];

/** Inputs as all programs get them. */
export function operationInputs(task: OperationTask): {
  inputs: Float32Array<ArrayBuffer>[];
  ids: Uint32Array<ArrayBuffer>;
} {
  const { shapes, ids } = operationOf(task);
  const random = seededRandom(7);
  return {
    inputs: shapes.map(shape => Float32Array.from({ length: sizeOf(shape) }, () => 4 * random() - 2)),
    ids: Uint32Array.from({ length: ids?.count ?? 0 }, () => Math.floor(random() * ids!.below)),
  };
}

/** GB that the operation reads and writes at least, or GFLOP of a product. */
export function operationWork(task: OperationTask): number {
  const { shapes, out, gflop, ids } = operationOf(task);
  if (gflop !== undefined) return gflop;
  // Of a table, only the rows that are looked up are read.
  const read =
    ids && task.operation === 'gatherRows'
      ? sizeOf(out)
      : shapes.reduce((sum, shape) => sum + sizeOf(shape), 0);
  return (4 * (read + sizeOf(out))) / 1e9;
}

/** Compares a result with f64. @throws Error if it differs. */
export function checkOperation(task: OperationTask, values: ArrayLike<number>): void {
  const { inputs, ids } = operationInputs(task);
  const expected = Array.from(operationOf(task).host(inputs, ids));
  const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const wrong = expected.findIndex((value, i) => !(Math.abs(values[i]! - value) <= 1e-4 * scale));
  if (wrong >= 0 || values.length !== expected.length)
    throw new Error(`wrong result at ${wrong}: ${values[wrong]} instead of ${expected[wrong]}`);
}
