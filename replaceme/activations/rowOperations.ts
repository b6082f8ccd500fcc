import { downloadF32, Scope, type Tensor } from '../../engine/index.js';
import { axpy, rowNorms, scaleRows } from '../../kernels/index.js';

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

/** Euclidean norms of the rows of x [T, N] f32, on the host. */
export async function rowNormsOf(x: Tensor): Promise<Float32Array> {
  using scope = new Scope(x.device);
  const norms = scope.tensor([x.rowCount], 'f32', 'norms');
  rowNorms(x.device.recorder, x, norms);
  return downloadF32(norms);
}

/** Sum of the squares of all elements of x [T, N] f32. */
export async function sumOfSquares(x: Tensor): Promise<number> {
  return (await rowNormsOf(x)).reduce((sum, norm) => sum + norm * norm, 0);
}
