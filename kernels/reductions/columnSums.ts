import { type ProgramSpec, programFamily, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

/** Settings of `columnSums`. */
export interface ColumnSumsOptions {
  /** out += instead of = */
  accumulate?: boolean;
  /** Multiplies each element by that of a normalised matrix, (of - shift) * factor; statistics [T,2]: (shift, factor). */
  normalised?: { readonly of: Tensor; readonly statistics: Tensor };
  /** Multiplies each element by that of another matrix: the sums are dot products of columns. */
  times?: Tensor;
}

const ROWS = 64;

type Factor = 'none' | 'times' | 'normalised';

/** WGSL of what an element is multiplied by. */
const factors: Readonly<Record<Factor, string>> = {
  none: '',
  times: ' * factors[at]',
  normalised: ' * (factors[at] - statistics[row].x) * statistics[row].y',
};

const program = programFamily(
  (factor: Factor): ProgramSpec =>
    flatProgram({
      key: factor === 'none' ? 'columnSums' : `columnSums ${factor}`,
      bindings: [
        'read',
        'write',
        ...(factor === 'none' ? [] : (['read'] as const)),
        ...(factor === 'normalised' ? (['read'] as const) : []),
      ],
      fields: 'rows: u32, columns: u32, step: u32, accumulate: u32',
      declarations: `
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
${factor === 'none' ? '' : '@group(0) @binding(3) var<storage, read> factors: array<f32>;'}
${factor === 'normalised' ? '@group(0) @binding(4) var<storage, read> statistics: array<vec2f>;' : ''}`,
      body: `
  let column = i % p.columns;
  let first = i / p.columns * p.step;
  var sum = 0.0;
  if (p.accumulate != 0u) { sum = out[i]; }
  for (var row = first; row < min(first + p.step, p.rows); row++) {
    let at = row * p.columns + column;
    sum += x[at]${factors[factor]};
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
  { accumulate = false, normalised, times }: ColumnSumsOptions = {},
): void {
  checkOperands('columnSums', rec, { x, out });
  const [rows, columns] = checkMatrix('columnSums', 'x', x);
  checkTensor('columnSums', 'out', out, [columns]);
  if (normalised) {
    checkTensor('columnSums', 'normalised', normalised.of, [rows, columns]);
    checkTensor('columnSums', 'statistics', normalised.statistics, [rows, 2]);
  }
  if (times) checkTensor('columnSums', 'times', times, [rows, columns]);
  const parts = Math.ceil(rows / ROWS);
  using scope = new Scope(x.device);
  const factor = normalised ? 'normalised' : times ? 'times' : 'none';
  const further = normalised ? [normalised.of, normalised.statistics] : times ? [times] : [];
  const sums = parts > 1 ? scope.tensor([parts, columns], 'f32', 'partial sums of columns') : out;
  const direct = sums === out;
  runFlat(
    rec,
    program(factor),
    [x, sums, ...further],
    Math.max(1, parts) * columns,
    [rows, columns, ROWS, direct && accumulate ? 1 : 0],
    {
      flops: { none: 1, times: 2, normalised: 4 }[factor] * x.size,
      bytes: 4 * (x.size * (factor === 'none' ? 1 : 2)),
    },
  );
  if (direct) return;
  runFlat(rec, program('none'), [sums, out], columns, [parts, columns, parts, accumulate ? 1 : 0], {
    flops: sums.size,
    bytes: 4 * sums.size,
  });
}
