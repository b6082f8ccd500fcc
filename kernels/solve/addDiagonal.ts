import { checkArguments, f32Bits, numeric, type ProgramSpec, type Recorder } from '../../engine/index.js';
import { aPair, checkOperands, checkTensor } from '../shared/checks.js';
import { type DoubleSingle, exactArithmetic, RUNTIME_ZERO } from '../shared/doubleSingle.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';

const program: ProgramSpec = flatProgram({
  key: 'addDiagonal',
  bindings: ['write', 'write'],
  fields: `columns: u32, first: u32, ${RUNTIME_ZERO}, high: f32, low: f32`,
  declarations: ({ exact }) => `
@group(0) @binding(1) var<storage, read_write> hi: array<f32>;
@group(0) @binding(2) var<storage, read_write> lo: array<f32>;
${exactArithmetic('f32', exact)}`,
  body: `
  let at = i * (p.columns + 1u) + p.first;
  let sum = add(add(Pair(hi[at], lo[at]), p.high), p.low);
  hi[at] = sum.hi;
  lo[at] = sum.lo;`,
});

/** Adds to a diagonal: A += value * I; A [n,n] double-single, `value` to 48 bits. @throws RmError INVALID_ARGUMENT. */
export function addDiagonal(rec: Recorder, a: DoubleSingle, value: number): void {
  checkOperands('addDiagonal', rec, {});
  checkArguments('addDiagonal', { a, value }, { a: aPair, value: numeric });
  const n = a.hi.columns;
  checkTensor('addDiagonal', 'hi', a.hi, [n, n]);
  const high = Math.fround(value);
  for (const { start, tensor } of rowTiles(a.hi)) {
    const rows = tensor.rowCount;
    const params = [n, start, 0, f32Bits(high), f32Bits(value - high)];
    runFlat(rec, program, [tensor, a.lo.rows(start, rows)], rows, params, {
      flops: 40 * rows,
      bytes: 16 * rows,
    });
  }
}
