import type { ProgramSpec, Recorder, Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { rowTiles } from '../shared/rowTiles.js';
import { workgroupReduction } from '../shared/workgroup.js';

const program: ProgramSpec = rowProgram({
  key: 'rowDots',
  bindings: ['read', 'read', 'write'],
  fields: 'first: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}`,
  body: `
  var mine = 0.0;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let at = row * p.columns + j;
    mine += a[at] * b[at];
  }
  let total = sum(mine, lane);
  if (lane == 0u) { out[p.first + row] = total; }`,
});

/**
 * Dot product of each pair of rows: out[t] = a[t] . b[t]; a, b [T,N], out [T], all f32. a and b may be larger than a binding.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function rowDots(rec: Recorder, a: Tensor, b: Tensor, out: Tensor): void {
  checkOperands('rowDots', rec, { a, b, out });
  const [rows, columns] = checkMatrix('rowDots', 'a', a);
  checkTensor('rowDots', 'b', b, [rows, columns]);
  checkTensor('rowDots', 'out', out, [rows]);
  for (const { start, tensor } of rowTiles(a)) {
    const count = tensor.rowCount;
    runRows(rec, program, [tensor, b.rows(start, count), out], [count, columns], [start], {
      flops: 2 * tensor.size,
      bytes: 8 * tensor.size,
    });
  }
}
