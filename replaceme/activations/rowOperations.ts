import { type Scope, Tensor, tensorFrom } from '../../engine/index.js';
import { axpy, rowNorms, scaleRows, type TokenRootsOptions, tokenRoots } from '../../kernels/index.js';

/** a - b in `scope`; both f32, of the same shape. */
export function difference(scope: Scope, a: Tensor, b: Tensor): Tensor {
  const { recorder } = scope.device;
  const out = scope.tensor(a.shape, 'f32', 'residual');
  recorder.copy(a, out);
  axpy(recorder, -1, b, out);
  return out;
}

/** The rows of x [T, N] f32 times `factors` [T], in `scope`. */
export function scaledRows(scope: Scope, x: Tensor, factors: Tensor): Tensor {
  const out = scope.tensor(x.shape, 'f32', x.label);
  scaleRows(scope.device.recorder, x, factors, out);
  return out;
}

/** Euclidean norms [T] of the rows of x [T, N] f32; the caller disposes them. */
export function rowNormsOf(x: Tensor): Tensor {
  const norms = Tensor.create(x.device, [x.rowCount], 'f32', 'norms');
  rowNorms(x.device.recorder, x, norms);
  return norms;
}

/** sqrt(w) [T] of every token, w = weight / |x|, in `scope`; x [T, N] f32. */
export function rootsOf(scope: Scope, x: Tensor, options: TokenRootsOptions = {}): Tensor {
  const roots = scope.tensor([x.rowCount], 'f32', 'roots of weights');
  const norms = scope.own(rowNormsOf(x)).reshape([1, x.rowCount]);
  tokenRoots(scope.device.recorder, norms, roots, options);
  return roots;
}

/** sqrt(w) [T] of tokens that all count `weight`, in `scope`. */
export const equalRoots = (scope: Scope, tokens: number, weight: number): Tensor =>
  scope.own(tensorFrom(scope.device, new Float32Array(tokens).fill(Math.sqrt(weight))));

/** The sum of the squares of numbers. */
export const sumOfSquares = (values: Float32Array): number =>
  values.reduce((sum, value) => sum + value * value, 0);
