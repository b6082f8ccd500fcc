import {
  type Access,
  f32Bits,
  type ProgramSpec,
  programFamily,
  type Recorder,
  type Tensor,
} from '../../engine/index.js';
import { type Matrix, partsOf } from '../blockProduct/blockProduct.js';
import { type DoubleSingle, exactArithmetic, RUNTIME_ZERO } from '../shared/doubleSingle.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';

/** A panel: `width` columns of matrices [n,r] from `first` on. */
export interface Panel {
  first: number;
  width: number;
}

/** A value rounded to double-single, as uniform parameters. */
const parts = (value: number): [high: number, low: number] => {
  const high = Math.fround(value);
  return [f32Bits(high), f32Bits(value - high)];
};

/** Declares bindings from 1 on: each matrix has a high part and, with `pair`, a low part. */
const declare = (
  matrices: readonly (readonly [name: string, access: Access, pair: boolean])[],
): { bindings: Access[]; declarations: string } => {
  const arrays = matrices.flatMap(([name, access, pair]) =>
    (pair ? ['Hi', 'Lo'] : ['Hi']).map(part => ({ name: name + part, access })),
  );
  const mode = { read: 'read', write: 'read_write' };
  return {
    bindings: arrays.map(({ access }) => access),
    declarations: arrays
      .map(
        ({ name, access }, i) =>
          `@group(0) @binding(${i + 1}) var<storage, ${mode[access]}> ${name}: array<f32>;`,
      )
      .join('\n'),
  };
};

/** WGSL of the row in the matrices' windows, the column in the panel, and the indices of the element in both. */
const position = `
  let row = i / p.width;
  let column = i % p.width;
  let at = row * p.columns + p.firstColumn + column;
  let inPanel = (p.firstRow + row) * p.width + column;`;

const fields = `width: u32, columns: u32, firstColumn: u32, firstRow: u32, shiftHi: f32, shiftLo: f32, ${RUNTIME_ZERO}`;

const program = (
  key: string,
  matrices: readonly (readonly [name: string, access: Access, pair: boolean])[],
  body: string,
): ProgramSpec => {
  const { bindings, declarations } = declare(matrices);
  return flatProgram({
    key,
    bindings,
    fields,
    declarations: ({ exact }) => `${exactArithmetic('f32', exact)}\n${declarations}`,
    body: `${position}\n${body}`,
  });
};

const equilibrateProgram = programFamily((pair: boolean) =>
  program(
    `equilibrate${pair ? ' double-single' : ''}`,
    [
      ['a', 'read', true],
      ['s', 'read', false],
      ['out', 'write', pair],
    ],
    `
  var v = Pair(aHi[at], aLo[at]);
  if (p.firstRow + row == column) { v = add(add(v, p.shiftHi), p.shiftLo); }
  let factor = sHi[p.firstRow + row] * sHi[column];
  outHi[at] = v.hi * factor;
  ${pair ? 'outLo[at] = v.lo * factor;' : ''}`,
  ),
);

const loadProgram = programFamily((pair: boolean) =>
  program(
    `load panel${pair ? ' double-single' : ''}`,
    [
      ['m', 'read', true],
      ['s', 'read', false],
      ['panel', 'write', pair],
    ],
    `
  panelHi[inPanel] = mHi[at] * sHi[p.firstRow + row];
  ${pair ? 'panelLo[inPanel] = mLo[at] * sHi[p.firstRow + row];' : ''}`,
  ),
);

const storeProgram = programFamily((pair: boolean, accumulate: boolean) =>
  program(
    `${accumulate ? 'add' : 'store'} panel${pair ? ' double-single' : ''}`,
    [
      ['x', 'write', true],
      ['s', 'read', false],
      ['panel', 'read', pair],
    ],
    `
  let factor = sHi[p.firstRow + row];
  let v = Pair(panelHi[inPanel] * factor, ${pair ? 'panelLo[inPanel] * factor' : '0.0'});
  let sum = ${accumulate ? 'addPair(Pair(xHi[at], xLo[at]), v)' : 'v'};
  xHi[at] = sum.hi;
  xLo[at] = sum.lo;`,
  ),
);

const beginProgram = program(
  'begin residual',
  [
    ['b', 'read', true],
    ['x', 'read', true],
    ['r', 'write', true],
    ['panel', 'write', true],
  ],
  `
  let v = Pair(xHi[at], xLo[at]);
  let rest = normalise(multiplyAdd(Pair(bHi[at], bLo[at]), Pair(-p.shiftHi, -p.shiftLo), v));
  rHi[inPanel] = rest.hi;
  rLo[inPanel] = rest.lo;
  panelHi[inPanel] = v.hi;
  panelLo[inPanel] = v.lo;`,
);

/** Runs a program on operands in binding order: matrices of one shape, bound in row tiles, and tensors bound whole. */
function runPanel(
  rec: Recorder,
  spec: ProgramSpec,
  operands: readonly { tensor: Tensor; whole: boolean }[],
  { first, width }: Panel,
  shift = 0,
): void {
  const byRows = operands.map(({ tensor, whole }) => (whole ? undefined : rowTiles(tensor)));
  const matrix = byRows.find(tiles => tiles !== undefined)!;
  matrix.forEach(({ start, tensor }, i) => {
    const tensors = operands.map((operand, j) => byRows[j]?.[i]?.tensor ?? operand.tensor);
    const count = tensor.rowCount * width;
    runFlat(rec, spec, tensors, count, [width, tensor.columns, first, start, ...parts(shift), 0], {
      flops: 20 * count,
      bytes: 4 * tensors.length * count,
    });
  });
}

const rows = (matrix: Matrix) => partsOf(matrix).map(tensor => ({ tensor, whole: false }));
const whole = (matrix: Matrix) => partsOf(matrix).map(tensor => ({ tensor, whole: true }));

/** out = S (A + shift I) S; powers of two s make it exact except for the sum with `shift`. An f32 out gets the high part. */
export function equilibrate(rec: Recorder, a: DoubleSingle, s: Tensor, shift: number, out: Matrix): void {
  const panel = { first: 0, width: a.hi.columns };
  runPanel(rec, equilibrateProgram('hi' in out), [...rows(a), ...whole(s), ...rows(out)], panel, shift);
}

/** panel = S M[:, columns] */
export function loadPanel(rec: Recorder, m: DoubleSingle, s: Tensor, panel: Matrix, columns: Panel): void {
  runPanel(rec, loadProgram('hi' in panel), [...rows(m), ...whole(s), ...whole(panel)], columns);
}

/** X[:, columns] = S panel, or += with `accumulate`. */
export function storePanel(
  rec: Recorder,
  x: DoubleSingle,
  s: Tensor,
  panel: Matrix,
  columns: Panel,
  accumulate: boolean,
): void {
  runPanel(rec, storeProgram('hi' in panel, accumulate), [...rows(x), ...whole(s), ...whole(panel)], columns);
}

/** r = (B - shift X)[:, columns] and panel = X[:, columns]. */
export function beginResidual(
  rec: Recorder,
  b: DoubleSingle,
  x: DoubleSingle,
  shift: number,
  r: DoubleSingle,
  panel: DoubleSingle,
  columns: Panel,
): void {
  runPanel(rec, beginProgram, [...rows(b), ...rows(x), ...whole(r), ...whole(panel)], columns, shift);
}
