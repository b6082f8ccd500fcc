import { type ProgramSpec, programFamily, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

/** Settings of `columnSums`. */
export interface ColumnSumsOptions {
  /** out += instead of = */
  accumulate?: boolean;
  /** Multiplies each element by that of a normalised matrix, (of - shift) * factor; statistics [T,2]: (shift, factor). */
  normalised?: { readonly of: Tensor; readonly statistics: Tensor };
}

const ROWS = 64;

const program = programFamily(
  (normalised: boolean): ProgramSpec =>
    flatProgram({
      key: normalised ? 'columnSums normalised' : 'columnSums',
      bindings: ['read', 'write', ...(normalised ? (['read', 'read'] as const) : [])],
      fields: 'rows: u32, columns: u32, step: u32, accumulate: u32',
      declarations: `
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
${
  normalised
    ? `@group(0) @binding(3) var<storage, read> factors: array<f32>;
@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;`
    : ''
}`,
      body: `
  let column = i % p.columns;
  let first = i / p.columns * p.step;
  var sum = 0.0;
  if (p.accumulate != 0u) { sum = out[i]; }
  for (var row = first; row < min(first + p.step, p.rows); row++) {
    let at = row * p.columns + column;
    sum += x[at]${normalised ? ' * (factors[at] - statistics[row].x) * statistics[row].y' : ''};
  }
  out[i] = sum;`,
    }),
);

/**
 * Sums columns: out[j] (+)= sum of column j; x [T,N] f32, out [N] f32. The same inputs give the same bits.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function columnSums(
  rec: Recorder,
  x: Tensor,
  out: Tensor,
  { accumulate = false, normalised }: ColumnSumsOptions = {},
): void {
  const [rows, columns] = checkMatrix('columnSums', 'x', x);
  checkTensor('columnSums', 'out', out, [columns]);
  if (normalised) {
    checkTensor('columnSums', 'normalised', normalised.of, [rows, columns]);
    checkTensor('columnSums', 'statistics', normalised.statistics, [rows, 2]);
  }
  const parts = Math.ceil(rows / ROWS);
  using scope = new Scope(x.device);
  const further = normalised ? [normalised.of, normalised.statistics] : [];
  const sums = parts > 1 ? scope.tensor([parts, columns], 'f32', 'partial sums of columns') : out;
  const direct = sums === out;
  runFlat(
    rec,
    program(normalised !== undefined),
    [x, sums, ...further],
    Math.max(1, parts) * columns,
    [rows, columns, ROWS, direct && accumulate ? 1 : 0],
    { flops: (normalised ? 4 : 1) * x.size, bytes: (normalised ? 8 : 4) * x.size },
  );
  if (direct) return;
  runFlat(rec, program(false), [sums, out], columns, [parts, columns, parts, accumulate ? 1 : 0], {
    flops: sums.size,
    bytes: 4 * sums.size,
  });
}
