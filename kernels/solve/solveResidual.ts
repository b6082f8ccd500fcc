import { checkArguments, type Recorder, settings } from '../../engine/index.js';
import { blockProduct, maybeProductVariant } from '../blockProduct/blockProduct.js';
import { aPair, checkOperands, checkTensor } from '../shared/checks.js';
import type { DoubleSingle } from '../shared/doubleSingle.js';
import type { CholeskyOptions } from './cholesky.js';

/**
 * Residual of a linear system in double-single: R = B - A X; A [m,k], X [k,r], B and R [m,r]. The error is about 2^-51 of
 * the sum of |a x|.
 *
 * @throws RmError INVALID_ARGUMENT when shapes do not fit, or X is larger than a binding.
 */
export function solveResidual(
  rec: Recorder,
  a: DoubleSingle,
  x: DoubleSingle,
  b: DoubleSingle,
  out: DoubleSingle,
  options: Pick<CholeskyOptions, 'variant'> = {},
): void {
  checkOperands('solveResidual', rec, {});
  checkArguments(
    'solveResidual',
    { a, x, b, out, options },
    { a: aPair, x: aPair, b: aPair, out: aPair, options: settings({ variant: maybeProductVariant }) },
  );
  const [m = 0, k = 0] = a.hi.shape;
  const r = x.hi.columns;
  checkTensor('solveResidual', 'x', x.hi, [k, r]);
  checkTensor('solveResidual', 'b', b.hi, [m, r]);
  checkTensor('solveResidual', 'out', out.hi, [m, r]);
  blockProduct(rec, {
    out: { matrix: out },
    from: { matrix: b },
    a: { matrix: a },
    b: { matrix: x },
    shape: [m, r, k],
    op: 'subtract',
    precise: true,
    variant: options.variant,
  });
}
