import {
  checkArguments,
  ensure,
  flag,
  optional,
  type Recorder,
  Scope,
  settings,
} from '../../engine/index.js';
import { blockProduct, type Matrix, partsOf, shapeOf } from '../blockProduct/blockProduct.js';
import { aMatrix, checkOperands } from '../shared/checks.js';
import { type CholeskyFactor, scratchLike, theFactor } from './cholesky.js';

const direction = settings<{ transpose?: boolean }>({ transpose: optional(flag) });

/**
 * Solves U^T X = B, or U X = B with `transpose`, in place: overwrites B [n,r] with X. B has the precision of the factor.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or precisions do not fit.
 */
export function triangularSolve(
  rec: Recorder,
  factor: CholeskyFactor,
  b: Matrix,
  options: { transpose?: boolean } = {},
): void {
  checkOperands('triangularSolve', rec, {});
  checkArguments(
    'triangularSolve',
    { factor, b, options },
    { factor: theFactor, b: aMatrix, options: direction },
  );
  const { u, n, inverses, inverseBlock, variant } = factor;
  const { transpose = false } = options;
  const [rows, r = 0] = shapeOf(b);
  ensure(
    rows === n && shapeOf(b).length === 2,
    `triangularSolve: B is [${shapeOf(b)}] and the factor [${n},${n}]`,
    'B must have as many rows as the factor.',
  );
  if (r === 0) return;
  using scope = new Scope(partsOf(u)[0]!.device);
  const rest = scratchLike(scope, b, [Math.min(n, inverseBlock), r], 'rest of the right-hand side');
  const blocks = Math.ceil(n / inverseBlock);
  for (let step = 0; step < blocks; step++) {
    const row = (transpose ? blocks - 1 - step : step) * inverseBlock;
    const size = Math.min(inverseBlock, n - row);
    const end = row + size;
    const from = { matrix: b, row };
    const solved = transpose
      ? { a: { matrix: u, row, column: end }, b: { matrix: b, row: end }, depth: n - end }
      : { a: { matrix: u, column: row, transpose: true }, b: { matrix: b }, depth: row };
    blockProduct(rec, {
      out: { matrix: rest },
      from,
      a: solved.a,
      b: solved.b,
      shape: [size, r, solved.depth],
      op: 'subtract',
      variant,
    });
    blockProduct(rec, {
      out: from,
      a: { matrix: inverses, row, transpose: !transpose },
      b: { matrix: rest },
      shape: [size, r, size],
      op: 'add',
      variant,
    });
  }
}

/** Solves U^T U X = B in place, as `triangularSolve` twice. */
export function solveFactored(rec: Recorder, factor: CholeskyFactor, b: Matrix): void {
  triangularSolve(rec, factor, b);
  triangularSolve(rec, factor, b, { transpose: true });
}
