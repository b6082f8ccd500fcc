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
  const { u, n, inverseBlock, panel } = factor;
  const { transpose = false } = options;
  const [rows, r = 0] = shapeOf(b);
  ensure(
    rows === n && shapeOf(b).length === 2,
    `triangularSolve: B is [${shapeOf(b)}] and the factor [${n},${n}]`,
    'B must have as many rows as the factor.',
  );
  if (r === 0) return;
  using scope = new Scope(partsOf(u)[0]!.device);
  const s = scratchLike(scope, b, [Math.min(n, inverseBlock), r], 'rest of the right-hand side');
  const rest = n > panel ? scratchLike(scope, b, [panel, r], 'panel') : b;
  for (const [first, count] of pieces([0, n], panel, transpose)) {
    const end = first + count;
    const { depth, ...operands } = productOfSolved(u, b, first, transpose ? [end, n] : [0, first], transpose);
    if (depth > 0) {
      blockProduct(rec, {
        out: { matrix: rest },
        from: { matrix: b, row: first },
        ...operands,
        shape: [count, r, depth],
        op: 'subtract',
        variant: factor.variant,
      });
    }
    const panelAt = depth > 0 ? { matrix: rest } : { matrix: b, row: first };
    solvePanel(rec, factor, b, panelAt, [first, end], { s, transpose });
  }
}

/** Divides rows first to end into pieces from `first` on, the last of which comes first with `backwards`. */
function pieces(
  [first, end]: readonly [first: number, end: number],
  most: number,
  backwards: boolean,
): [first: number, count: number][] {
  const list: [number, number][] = [];
  for (let row = first; row < end; row += most) list.push([row, Math.min(most, end - row)]);
  return backwards ? list.reverse() : list;
}

/** The operands of op(U) X in B's rows from `first` on, over rows from..to of X, which are solved. */
function productOfSolved(
  u: Matrix,
  b: Matrix,
  first: number,
  [from, to]: readonly [from: number, to: number],
  transpose: boolean,
) {
  return {
    a: transpose
      ? { matrix: u, row: first, column: from }
      : { matrix: u, row: from, column: first, transpose: true },
    b: { matrix: b, row: from },
    depth: to - from,
  };
}

/** Solves rows first to end, given these rows of B less the products of the rows of X beyond the panel. */
function solvePanel(
  rec: Recorder,
  { u, inverses, inverseBlock, variant }: CholeskyFactor,
  b: Matrix,
  panel: { matrix: Matrix; row?: number },
  [first, end]: readonly [first: number, end: number],
  { s, transpose }: { s: Matrix; transpose: boolean },
): void {
  const r = shapeOf(b)[1]!;
  for (const [row, size] of pieces([first, end], inverseBlock, transpose)) {
    const solved = transpose ? ([row + size, end] as const) : ([first, row] as const);
    const product = productOfSolved(u, b, row, solved, transpose);
    blockProduct(rec, {
      out: { matrix: s },
      from: { matrix: panel.matrix, row: (panel.row ?? 0) + row - first },
      a: product.a,
      b: product.b,
      shape: [size, r, product.depth],
      op: 'subtract',
      variant,
    });
    blockProduct(rec, {
      out: { matrix: b, row },
      a: { matrix: inverses, row, transpose: !transpose },
      b: { matrix: s },
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
