import type { Recorder, Tensor } from '../../engine/index.js';
import type { DoubleSingle } from '../shared/doubleSingle.js';
import { addOuterProducts, type OuterProductsOptions } from './outerProducts.js';

/**
 * Accumulates a Gram matrix in double-single: out += X^T diag(w) X; X f32 [T,d], weights f32 [T] of 0 or more or undefined
 * for ones, out [d,d]. Only the lower triangle of out is valid: call `symmetrize` after the last call. The same inputs
 * give the same bits on the same device. Algorithm: outerProducts.ts.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function gram(
  rec: Recorder,
  x: Tensor,
  weights: Tensor | undefined,
  out: DoubleSingle,
  options?: OuterProductsOptions,
): void {
  addOuterProducts(rec, 'gram', x, x, weights, out, true, options);
}
