// meanMagnitudes: out[s,j] = mean of |x[t,j]| over rows first(s) <= t < end(s); x [T,N] f32, ranges [S,2] u32, out [S,N] f32.
// One invocation per element of out; it sums 64 rows at a time, and then these sums, so that rounding stays small.
import type { ProgramSpec, Recorder, Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

const ROWS = 64;

const program: ProgramSpec = flatProgram({
  key: 'meanMagnitudes',
  bindings: ['read', 'read', 'write'],
  fields: 'rows: u32, columns: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> ranges: array<vec2u>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;`,
  body: `
  let range = ranges[i / p.columns];
  let end = min(range.y, p.rows);
  var sum = 0.0;
  for (var first = range.x; first < end; first += ${ROWS}u) {
    var part = 0.0;
    for (var row = first; row < min(first + ${ROWS}u, end); row++) {
      part += abs(x[row * p.columns + i % p.columns]);
    }
    sum += part;
  }
  out[i] = sum / f32(end - range.x);`,
});

/**
 * Means of |x| by column over ranges of rows: x [T,N] f32, ranges [S,2] u32 (first row, and the one after the last), out
 * [S,N] f32. A range has a row at least.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function meanMagnitudes(rec: Recorder, x: Tensor, ranges: Tensor, out: Tensor): void {
  checkOperands('meanMagnitudes', rec, { x, ranges, out });
  const [rows, columns] = checkMatrix('meanMagnitudes', 'x', x);
  const [count] = checkMatrix('meanMagnitudes', 'out', out);
  checkTensor('meanMagnitudes', 'ranges', ranges, [count, 2], ['u32']);
  checkTensor('meanMagnitudes', 'out', out, [count, columns]);
  const work = { flops: 2 * x.size, bytes: 4 * (x.size + out.size) };
  runFlat(rec, program, [x, ranges, out], count * columns, [rows, columns], work);
}
