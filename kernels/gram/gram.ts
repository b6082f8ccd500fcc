import type { Recorder, Tensor } from '../../engine/index.js';
import { checkOperands } from '../shared/checks.js';
import type { DoubleSingle } from '../shared/doubleSingle.js';
import { addOuterProducts, type OuterProductsOptions } from './outerProducts.js';

/**
 * Accumulates a Gram matrix in double-single: out += X^T diag(w) X; X f32 [T,d], weights f32 [T] of 0 or more or undefined
 * for ones, out [d,d]. Only the lower triangle of out is valid: call `symmetrize` after the last call. The same inputs
 * give the same bits on the same device. Algorithm: outerProducts.ts.
 * The sums are kept in 48 bits but err by up to 1e-9 of the sums of magnitudes: products of the parts below a column's grid
 * are f32. With `precise` they err by 1e-13 (1e-12 from 40,000 rows on).
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
  checkOperands('gram', rec, { x });
  addOuterProducts(rec, 'gram', x, x, weights, out, true, options);
}
