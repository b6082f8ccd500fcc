import { type Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import type { Architecture } from '../../model/index.js';
import { rowNormsOf, scaledRows } from '../activations/rowOperations.js';

/**
 * Rows of x [T, N] divided by what the norm behind a projection divides that token by, times the residual scale, in
 * `scope`. `projected` [T, hidden] is what the norm reads.
 */
export async function dividedByNorm(
  scope: Scope,
  { norm, residualScale }: Architecture,
  x: Tensor,
  projected: Tensor,
): Promise<Tensor> {
  const factors = (await rowNormsOf(projected)).map(
    length => residualScale / Math.sqrt(length ** 2 / projected.columns + norm.eps),
  );
  return scaledRows(scope, x, scope.own(tensorFrom(scope.device, factors)));
}
