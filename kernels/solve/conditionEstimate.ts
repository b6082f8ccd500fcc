import { downloadF32, type Recorder, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { blockProduct, partsOf } from '../blockProduct/blockProduct.js';
import { type CholeskyFactor, scratchLike } from './cholesky.js';
import { solveFactored } from './triangularSolve.js';

/** Number of random vectors: the width of a tile, since fewer would take as long. */
export const PROBES = 32;

/** Random signs [n, PROBES] from a multiplicative hash, the same in every run. */
export const randomSigns = (n: number): Float32Array =>
  Float32Array.from({ length: n * PROBES }, (_, i) => ((Math.imul(i + 1, 0x9e3779b1) >>> 16) & 1 ? 1 : -1));

/** Sum of squares of each column of [n, PROBES]. */
function columnSquares(values: Float32Array): Float64Array {
  const sums = new Float64Array(PROBES);
  for (let i = 0; i < values.length; i++) sums[i % PROBES]! += values[i]! ** 2;
  return sums;
}

/** The largest growth of a column from one vector block to the next. */
async function largestGrowth(before: Tensor, after: Tensor): Promise<number> {
  const squares = columnSquares(await downloadF32(before));
  const growth = columnSquares(await downloadF32(after)).map((square, i) => square / (squares[i]! || 1));
  return Math.sqrt(growth.reduce((most, value) => Math.max(most, value), 0));
}

/** Estimates the 2-norm of a symmetric matrix [n,n] f32 from below, by three steps of power iteration. */
export async function normEstimate(rec: Recorder, a: Tensor): Promise<number> {
  const n = a.columns;
  const shape = [n, PROBES];
  using scope = new Scope(a.device);
  const powers = [scope.own(tensorFrom(a.device, randomSigns(n), shape, 'start vectors'))];
  for (let power = 1; power <= 3; power++) {
    powers.push(scope.tensor(shape));
    blockProduct(rec, {
      out: { matrix: powers[power]! },
      a: { matrix: a },
      b: { matrix: powers[power - 1]! },
      shape: [n, PROBES, n],
      op: 'add',
    });
  }
  return await largestGrowth(powers[2]!, powers[3]!);
}

/**
 * Estimates the 2-norm of the inverse of a symmetric positive definite matrix from below (up to the rounding of the
 * factor), by two steps of power iteration. The matrix is equilibrated, so that the powers stay in the range of f32 up to a
 * condition of 1e15.
 */
export async function inverseNormEstimate(rec: Recorder, factor: CholeskyFactor): Promise<number> {
  const { n, u } = factor;
  const shape = [n, PROBES];
  const { device } = partsOf(u)[0]!;
  using scope = new Scope(device);
  const signs = scope.own(tensorFrom(device, randomSigns(n), shape, 'start vectors'));
  const solved = scratchLike(scope, u, shape, 'powers of the inverse');
  const [high, low] = partsOf(solved) as [Tensor, Tensor | undefined];
  rec.copy(signs, high);
  if (low) rec.clear(low);
  solveFactored(rec, factor, solved);
  const first = scope.tensor(shape);
  rec.copy(high, first);
  solveFactored(rec, factor, solved);
  return await largestGrowth(first, high);
}
