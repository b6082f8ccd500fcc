import type { Recorder, Tensor } from '../../engine/index.js';
import type { DoubleSingle } from '../shared/doubleSingle.js';
import { addOuterProducts, type OuterProductsOptions } from './outerProducts.js';

/**
 * Accumulates a cross Gram matrix in double-single: out += X^T diag(w) Y; X f32 [T,m], Y f32 [T,n], weights f32 [T] or
 * undefined for ones, out [m,n]. The same inputs give the same bits on the same device. Algorithm: outerProducts.ts.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function crossGram(
  rec: Recorder,
  x: Tensor,
  y: Tensor,
  weights: Tensor | undefined,
  out: DoubleSingle,
  options?: OuterProductsOptions,
): void {
  addOuterProducts(rec, 'crossGram', x, y, weights, out, false, options);
}
