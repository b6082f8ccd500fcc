import type { Scope, Tensor } from '../../engine/index.js';
import { normDivisors } from '../../kernels/index.js';
import type { Architecture } from '../../model/index.js';
import { rowNormsOf, scaledRows } from '../activations/rowOperations.js';

/**
 * What the norm behind a projection multiplies each token by, with the residual scale [T], in `scope`; `projected`
 * [T, hidden] is what it reads.
 */
export function normFactors(scope: Scope, { norm, residualScale }: Architecture, projected: Tensor): Tensor {
  const factors = scope.tensor([projected.rowCount], 'f32', 'factors of a norm');
  const options = { columns: projected.columns, eps: norm.eps, scale: residualScale };
  normDivisors(scope.device.recorder, scope.own(rowNormsOf(projected)), factors, options);
  return factors;
}

/**
 * Rows of x [T, N] divided by what the norm behind a projection divides that token by, times the residual scale, in
 * `scope`. `projected` [T, hidden] is what the norm reads.
 */
export const dividedByNorm = (scope: Scope, arch: Architecture, x: Tensor, projected: Tensor): Tensor =>
  scaledRows(scope, x, normFactors(scope, arch, projected));
