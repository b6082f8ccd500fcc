import { programFamily, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { scalarTensor } from '../shared/wgsl.js';
import { workgroupReduction } from '../shared/workgroup.js';

/** The index that `argmax` writes for a row with NaN or infinity. */
export const NOT_FINITE = 0xffffffff;

/** Columns of a chunk; rows of up to four chunks are not divided. */
const CHUNK = 2048;

/** WGSL that chooses between two (order, index): the larger element, or the first if they are equal. */
const BETTER = 'select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y))';
const indexOf = 'select(best.y, 0xffffffffu, best.x == 0xffffffffu)';

const chunkProgram = programFamily((whole: boolean) =>
  rowProgram({
    key: whole ? 'argmax' : 'argmax of chunks',
    bindings: ['read', 'write'],
    fields: 'chunks: u32, chunk: u32',
    declarations: `${scalarTensor('x', 1, 'f32')}
@group(0) @binding(2) var<storage, read_write> out: array<${whole ? 'u32' : 'vec2u'}>;
fn order(value: f32) -> u32 {
  // Zeros of either sign are equal.
  let bits = select(bitcast<u32>(value), 0u, value == 0.0);
  let finite = (bits & 0x7f800000u) != 0x7f800000u;
  return select(0xffffffffu, select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u), finite);
}
${workgroupReduction('largest', ROW_LANES, 'vec2u', BETTER)}`,
    body: `
  let base = row / p.chunks * p.columns;
  let first = row % p.chunks * p.chunk;
  var mine = vec2u(0u, 0xffffffffu);
  for (var j = first + lane; j < min(p.columns, first + p.chunk); j += ${ROW_LANES}u) {
    let a = mine;
    let b = vec2u(order(x(base + j)), j);
    mine = ${BETTER};
  }
  let best = largest(mine, lane);
  if (lane == 0u) { out[row] = ${whole ? indexOf : 'best'}; }`,
  }),
);

const compare = flatProgram({
  key: 'argmax over chunks',
  bindings: ['read', 'write'],
  fields: 'chunks: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> candidates: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;`,
  body: `
  var best = candidates[i * p.chunks];
  for (var c = 1u; c < p.chunks; c++) {
    let a = best;
    let b = candidates[i * p.chunks + c];
    best = ${BETTER};
  }
  out[i] = ${indexOf};`,
});

/**
 * Finds the largest element of each row: out[t] = its index, the first if several are equal; x [T,N] f32, out [T] u32.
 * A row with NaN or infinity gives 0xffffffff. @throws RmError INVALID_ARGUMENT.
 */
export function argmax(rec: Recorder, x: Tensor, out: Tensor): void {
  checkOperands('argmax', rec, { x, out });
  const [rows, columns] = checkMatrix('argmax', 'x', x);
  checkTensor('argmax', 'out', out, [rows], ['u32']);
  const whole = columns <= 4 * CHUNK;
  const chunk = whole ? columns : CHUNK;
  const chunks = whole ? 1 : Math.ceil(columns / chunk);
  using scope = new Scope(x.device);
  const target = whole ? out : scope.tensor([rows * chunks, 2], 'u32', 'argmax of chunks');
  runRows(rec, chunkProgram(whole), [x, target], [rows * chunks, columns], [chunks, chunk], {
    flops: x.size,
    bytes: x.byteLength + target.byteLength,
  });
  if (whole) return;
  runFlat(rec, compare, [target, out], rows, [chunks], { flops: 0, bytes: target.byteLength });
}
