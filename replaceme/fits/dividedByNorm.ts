import { type Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import type { Architecture } from '../../model/index.js';
import { rowNormsOf, scaledRows } from '../activations/rowOperations.js';

/** What the norm behind a projection multiplies each token by, with the residual scale; `projected` is what it reads. */
export const normFactors = async (
  { norm, residualScale }: Architecture,
  projected: Tensor,
): Promise<Float32Array> =>
  (await rowNormsOf(projected)).map(
    length => residualScale / Math.sqrt(length ** 2 / projected.columns + norm.eps),
  );

/**
 * Rows of x [T, N] divided by what the norm behind a projection divides that token by, times the residual scale, in
 * `scope`. `projected` [T, hidden] is what the norm reads.
 */
export async function dividedByNorm(
  scope: Scope,
  arch: Architecture,
  x: Tensor,
  projected: Tensor,
): Promise<Tensor> {
  const factors = await normFactors(arch, projected);
  return scaledRows(scope, x, scope.own(tensorFrom(scope.device, factors)));
}
