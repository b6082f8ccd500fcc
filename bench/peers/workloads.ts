/** The tasks of all programs with their inputs, and the check of the results. */
import { seededRandom } from '../../engine/random.js';
import { checkOperation, type OperationTask, operationOf, operationWork } from './operations.js';

/** C[m,n] = A[m,k] B[k,n], all f32 and row-major. */
export interface MatmulTask {
  readonly task: 'matmul';
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** (silu(z W_gate) * (z W_up)) W_down with z = rmsNorm(x) * gain: the feed-forward half of a Llama layer in f32. */
export interface MlpTask {
  readonly task: 'mlp';
  readonly tokens: number;
  readonly hidden: number;
  readonly intermediate: number;
}

/** One pass over a prompt, with at most the logits of its last token. */
export interface PrefillTask {
  readonly task: 'prefill';
  readonly ids: readonly number[];
}

/** `tokens` steps of one token after a prompt, which is not timed. */
export interface DecodeTask {
  readonly task: 'decode';
  readonly ids: readonly number[];
  readonly tokens: number;
}

export type Task = MatmulTask | MlpTask | OperationTask | PrefillTask | DecodeTask;

export const EPS = 1e-5;

/** Work of one run: GFLOP, GB of most operations, or tokens of a language model. */
export function workOf(task: Task): number {
  switch (task.task) {
    case 'matmul':
      return (2 * task.m * task.n * task.k) / 1e9;
    case 'mlp':
      return (6 * task.tokens * task.hidden * task.intermediate) / 1e9;
    case 'operation':
      return operationWork(task);
    case 'prefill':
      return task.ids.length;
    case 'decode':
      return task.tokens;
  }
}

/** "512x512x512" and the like; products are MxNxK. */
export function nameOf(task: MatmulTask | MlpTask | OperationTask): string {
  if (task.task === 'operation') return operationOf(task).title;
  return task.task === 'matmul'
    ? `${task.m}x${task.n}x${task.k}`
    : `${task.tokens}x${task.hidden}x${task.intermediate}`;
}

function uniform(count: number, seed: number, scale = 1): Float32Array<ArrayBuffer> {
  const random = seededRandom(seed);
  return Float32Array.from({ length: count }, () => (random() - 0.5) * scale);
}

export const matmulInputs = ({ m, n, k }: MatmulTask) => ({ a: uniform(m * k, 1), b: uniform(k * n, 2) });

/** Weights as [in, out]. */
export const mlpInputs = ({ tokens, hidden, intermediate }: MlpTask) => ({
  x: uniform(tokens * hidden, 1, 4),
  gain: uniform(hidden, 2).map(value => 1 + value),
  gate: uniform(hidden * intermediate, 3, 0.2),
  up: uniform(hidden * intermediate, 4, 0.2),
  down: uniform(intermediate * hidden, 5, 0.2),
});

/** [rows, columns] -> [columns, rows] */
export function transposed(values: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const out = new Float32Array(values.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) out[c * rows + r] = values[r * columns + c]!;
  return out;
}

/** row [rows] times matrix [rows, columns] in f64 */
function rowTimes(row: ArrayLike<number>, matrix: Float32Array, columns: number): Float64Array {
  const out = new Float64Array(columns);
  for (let r = 0; r < row.length; r++) {
    for (let c = 0; c < columns; c++) out[c]! += row[r]! * matrix[r * columns + c]!;
  }
  return out;
}

/** Rows of the result in f64. */
function referenceRow(task: MatmulTask | MlpTask, row: number): Float64Array {
  if (task.task === 'matmul') {
    const { a, b } = matmulInputs(task);
    return rowTimes(a.subarray(row * task.k, (row + 1) * task.k), b, task.n);
  }
  const { hidden, intermediate } = task;
  const { x, gain, gate, up, down } = mlpInputs(task);
  const values = Float64Array.from(x.subarray(row * hidden, (row + 1) * hidden));
  const factor = 1 / Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / hidden + EPS);
  const normed = values.map((value, i) => value * factor * gain[i]!);
  const ups = rowTimes(normed, up, intermediate);
  const features = rowTimes(normed, gate, intermediate).map((z, i) => (z / (1 + Math.exp(-z))) * ups[i]!);
  return rowTimes(features, down, hidden);
}

/** Largest error allowed of an f32 program, relative to the row's largest value. */
const TOLERANCE = 1e-4;

/** Compares three rows of a product, or a whole result, with f64. @throws Error if one differs. */
export function checkResult(task: MatmulTask | MlpTask | OperationTask, values: ArrayLike<number>): void {
  if (task.task === 'operation') {
    checkOperation(task, values);
    return;
  }
  const rows = task.task === 'matmul' ? task.m : task.tokens;
  for (const row of [0, rows >> 1, rows - 1]) {
    const expected = referenceRow(task, row);
    const scale = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const [c, value] of expected.entries()) {
      const actual = values[row * expected.length + c]!;
      if (!(Math.abs(actual - value) <= TOLERANCE * scale)) {
        throw new Error(`wrong result in row ${row}, column ${c}: ${actual} instead of ${value}`);
      }
    }
  }
}
