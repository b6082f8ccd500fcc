import type { ProgramSpec, Recorder, Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { NAN_BITS } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { workgroupReduction } from '../shared/workgroup.js';

/** WGSL of a loop over this invocation's columns; `ab` holds the elements of both rows. */
const loop = (statement: string): string => `
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let ab = vec2f(a[row * p.columns + j], b[row * p.columns + j]);
    ${statement}
  }`;

const program: ProgramSpec = rowProgram({
  key: 'cosineDistance',
  bindings: ['read', 'read', 'write'],
  fields: 'nan: f32',
  declarations: `
const LARGEST = 3.4028234e38;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
${workgroupReduction('most', ROW_LANES, 'vec2f', 'max(a, b)')}
${workgroupReduction('sum', ROW_LANES, 'vec2f', 'a + b')}`,
  body: `
  var mine = vec2f(0.0);
  // Tests the bits: max drops NaN, and compilers may assume that NaN does not occur.
  ${loop(`let finite = (bitcast<vec2u>(ab) & vec2u(0x7f800000u)) != vec2u(0x7f800000u);
    mine = max(mine, select(vec2f(LARGEST), abs(ab), finite));`)}
  let largest = most(mine, lane);
  let unit = select(vec2f(1.0), largest, largest > vec2f(0.0));
  var squares = vec2f(0.0);
  ${loop('squares += (ab / unit) * (ab / unit);')}
  let norms = sqrt(max(sum(squares, lane), vec2f(1.0)));
  var gaps = 0.0;
  ${loop(`let scaled = ab / unit / norms;
    gaps += (scaled.x - scaled.y) * (scaled.x - scaled.y);`)}
  let distance = 0.5 * sum(vec2f(gaps, 0.0), lane).x;
  if (lane == 0u) {
    out[row] = select(select(1.0, distance, all(largest > vec2f(0.0))), p.nan, any(largest >= vec2f(LARGEST)));
  }`,
});

/**
 * Cosine distance of each pair of rows: out[t] = 1 - cos(a[t], b[t]); a, b [T,D] f32, out [T] f32. A zero row gives 1, a
 * row with NaN or infinity gives NaN. @throws RmError INVALID_ARGUMENT.
 */
export function cosineDistance(rec: Recorder, a: Tensor, b: Tensor, out: Tensor): void {
  checkOperands('cosineDistance', rec, { a, b, out });
  const shape = checkMatrix('cosineDistance', 'a', a);
  checkTensor('cosineDistance', 'b', b, shape);
  checkTensor('cosineDistance', 'out', out, [shape[0]]);
  runRows(rec, program, [a, b, out], shape, [NAN_BITS], { flops: 9 * a.size, bytes: 8 * a.size });
}
