import { downloadF32, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { rowTiles } from '../shared/rowTiles.js';
import { scalarTensor } from '../shared/wgsl.js';
import { workgroupReduction } from '../shared/workgroup.js';

/** WGSL of a loop over this invocation's columns; `value` holds the element. */
const loop = (statement: string): string => `
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let value = x(row * p.columns + j);
    ${statement}
  }`;

const program = rowProgram({
  key: 'rowNorms',
  bindings: ['read', 'write'],
  declarations: `${scalarTensor('x', 1, 'f32')}
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}
${workgroupReduction('most', ROW_LANES, 'f32', 'max(a, b)')}`,
  body: `
  var mine = 0.0;
  ${loop('mine = max(mine, abs(value));')}
  let largest = most(mine, lane);
  let unit = select(1.0, largest, largest > 0.0);
  var squares = 0.0;
  ${loop('squares += (value / unit) * (value / unit);')}
  let total = sum(squares, lane);
  if (lane == 0u) { out[row] = unit * sqrt(total); }`,
});

/**
 * Euclidean norm of each row, also where its square is no f32: out[t] = |x[t]|; x [T,N], out [T] f32.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function rowNorms(rec: Recorder, x: Tensor, out: Tensor): void {
  checkOperands('rowNorms', rec, { x, out });
  const shape = checkMatrix('rowNorms', 'x', x);
  checkTensor('rowNorms', 'out', out, [shape[0]]);
  runRows(rec, program, [x, out], shape, [], { flops: 2 * x.size, bytes: 4 * (x.size + out.size) });
}

/** Computes the Frobenius norm of a matrix, which may be larger than a binding; waits for the device. */
export async function frobeniusNorm(rec: Recorder, matrix: Tensor): Promise<number> {
  let sum = 0;
  for (const { tensor } of rowTiles(matrix)) {
    using scope = new Scope(matrix.device);
    const norms = scope.tensor([tensor.rowCount]);
    rowNorms(rec, tensor, norms);
    for (const norm of await downloadF32(norms)) sum += norm * norm;
  }
  return Math.sqrt(sum);
}
