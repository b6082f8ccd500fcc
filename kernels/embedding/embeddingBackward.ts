import type { ProgramSpec, Recorder, Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { rowTiles } from '../shared/rowTiles.js';
import { workgroupReduction } from '../shared/workgroup.js';

const program: ProgramSpec = rowProgram({
  key: 'embeddingBackward',
  bindings: ['read', 'read', 'write'],
  fields: 'start: u32, end: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> gradient: array<f32>;
@group(0) @binding(3) var<storage, read_write> tableGradient: array<f32>;
${workgroupReduction('any_earlier', ROW_LANES, 'u32', 'a | b')}`,
  body: `
  let id = ids[row];
  if (id < p.start || id >= p.end) { return; }
  var mine = 0u;
  for (var t = lane; t < row; t += ${ROW_LANES}u) { mine |= select(0u, 1u, ids[t] == id); }
  if (any_earlier(mine, lane) != 0u) { return; }
  let to = (id - p.start) * p.columns;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    var sum = gradient[row * p.columns + j];
    for (var t = row + 1u; t < p.rows; t++) {
      if (ids[t] == id) { sum += gradient[t * p.columns + j]; }
    }
    tableGradient[to + j] += sum;
  }`,
});

/**
 * Backward pass of `embedding`: tableGradient[ids[t]] += gradient[t]; ids u32 [T], gradient f32 [T,D], tableGradient f32
 * [V,D]. The same inputs give the same bits. @throws RmError INVALID_ARGUMENT.
 */
export function embeddingBackward(rec: Recorder, ids: Tensor, gradient: Tensor, tableGradient: Tensor): void {
  checkOperands('embeddingBackward', rec, { ids, gradient, tableGradient });
  const shape = checkMatrix('embeddingBackward', 'gradient', gradient);
  const [, columns] = checkMatrix('embeddingBackward', 'tableGradient', tableGradient);
  checkTensor('embeddingBackward', 'ids', ids, [shape[0]], ['u32']);
  checkTensor('embeddingBackward', 'gradient', gradient, [shape[0], columns]);
  for (const { start, tensor } of rowTiles(tableGradient)) {
    runRows(rec, program, [ids, gradient, tensor], shape, [start, start + tensor.rowCount], {
      flops: gradient.size,
      bytes: 12 * gradient.size,
    });
  }
}
