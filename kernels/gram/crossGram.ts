import type { Recorder, Tensor } from '../../engine/index.js';
import { checkOperands } from '../shared/checks.js';
import type { DoubleSingle } from '../shared/doubleSingle.js';
import { addOuterProducts, type OuterProductsOptions } from './outerProducts.js';

/**
 * Accumulates a cross Gram matrix in double-single: out += X^T diag(w) Y; X f32 [T,m], Y f32 [T,n], weights f32 [T] or
 * undefined for ones, out [m,n]. The same inputs give the same bits on the same device. Algorithm: outerProducts.ts.
 * The sums are kept in 48 bits but err by up to 1e-9 of the sums of magnitudes: products of the parts below a column's grid
 * are f32. With `precise` they err by 1e-13 (1e-12 from 40,000 rows on).
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
  checkOperands('crossGram', rec, { x, y });
  addOuterProducts(rec, 'crossGram', x, y, weights, out, false, options);
}
