import { programFamily, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { checkOperands, checkTensor } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { rowTiles } from '../shared/rowTiles.js';
import { workgroupReduction } from '../shared/workgroup.js';

const PARTS = 1024;

/** First pass: row r of p.rows sums the squares of every p.rows-th group of lanes. `last` pass: one row adds the sums. */
const program = programFamily((last: boolean) =>
  rowProgram({
    key: last ? 'squaredNorm total' : 'squaredNorm',
    bindings: ['read', 'write'],
    declarations: `
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}`,
    body: `
  var mine = 0.0;
  for (var i = row * ${ROW_LANES}u + lane; i < p.columns; i += p.rows * ${ROW_LANES}u) {
    mine += x[i]${last ? '' : ' * x[i]'};
  }
  let total = sum(mine, lane);
  if (lane == 0u) { out[row] ${last ? '+=' : '='} total; }`,
  }),
);

/** Adds a squared norm: total[0] += sum of x^2; x f32 of any shape, total [1] f32. @throws RmError INVALID_ARGUMENT. */
export function addSquaredNorm(rec: Recorder, x: Tensor, total: Tensor): void {
  checkOperands('addSquaredNorm', rec, { x, total });
  checkTensor('addSquaredNorm', 'x', x, x.shape);
  checkTensor('addSquaredNorm', 'total', total, [1]);
  for (const { tensor } of rowTiles(x.reshape([x.size, 1]))) {
    const { size } = tensor;
    const parts = Math.min(PARTS, Math.ceil(size / (4 * ROW_LANES)));
    using scope = new Scope(x.device);
    const sums = scope.tensor([parts], 'f32', 'sums of squares');
    runRows(rec, program(false), [tensor, sums], [parts, size], [], { flops: 2 * size, bytes: 4 * size });
    runRows(rec, program(true), [sums, total], [1, parts], [], { flops: parts, bytes: 4 * parts });
  }
}
