import { f32Bits, type ProgramSpec, type Recorder, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { workgroupReduction } from '../shared/workgroup.js';

/** WGSL of a loop over this invocation's columns; `pd` holds the elements of output and target. */
const loop = (statement: string): string => `
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let pd = vec2f(outputs[row * p.columns + j], targets[row * p.columns + j]);
    ${statement}
  }`;

const program: ProgramSpec = rowProgram({
  key: 'cosineLoss',
  bindings: ['read', 'read', 'write', 'write'],
  fields: 'share: f32',
  declarations: `
const EPS = vec2f(1e-8);
@group(0) @binding(1) var<storage, read> outputs: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>;
${workgroupReduction('most', ROW_LANES, 'vec2f', 'max(a, b)')}
${workgroupReduction('sum', ROW_LANES, 'vec2f', 'a + b')}`,
  body: `
  var mine = vec2f(0.0);
  ${loop('mine = max(mine, abs(pd));')}
  let largest = most(mine, lane);
  let unit = select(vec2f(1.0), largest, largest > vec2f(0.0));
  var squares = vec2f(0.0);
  ${loop('squares += (pd / unit) * (pd / unit);')}
  let lengths = sqrt(sum(squares, lane));
  let norms = max(unit * lengths, EPS);
  // Long rows are divided in two steps: their norm may overflow.
  let clamped = unit * lengths < EPS;
  let first = select(unit, EPS, clamped);
  let second = select(lengths, vec2f(1.0), clamped);
  var parts = vec2f(0.0);
  ${loop(`let scaled = pd / first / second;
    parts += vec2f((scaled.x - scaled.y) * (scaled.x - scaled.y), scaled.x * scaled.y);`)}
  let sums = sum(parts, lane);
  let distance = select(0.5 * sums.x, 1.0 - sums.y, any(clamped));
  if (lane == 0u) { loss[row] = distance; }
  // 1 - distance is the cosine, which only the gradient of the norm has as a factor.
  ${loop(`let scaled = pd / first / second;
    let slope = select(scaled.x - scaled.y - distance * scaled.x, -scaled.y, clamped.x);
    gradient[row * p.columns + j] = p.share * slope / norms.x;`)}`,
});

/**
 * Cosine loss and its gradient: loss[t] = 1 - cos(outputs[t], targets[t]), gradient = that of the mean loss by the
 * outputs; outputs, targets, gradient [T,D] f32, loss [T] f32. @throws RmError INVALID_ARGUMENT.
 */
export function cosineLoss(
  rec: Recorder,
  outputs: Tensor,
  targets: Tensor,
  loss: Tensor,
  gradient: Tensor,
): void {
  checkOperands('cosineLoss', rec, { outputs, targets, loss, gradient });
  const shape = checkMatrix('cosineLoss', 'outputs', outputs);
  checkTensor('cosineLoss', 'targets', targets, shape);
  checkTensor('cosineLoss', 'loss', loss, [shape[0]]);
  checkTensor('cosineLoss', 'gradient', gradient, shape);
  const { size } = outputs;
  runRows(rec, program, [outputs, targets, loss, gradient], shape, [f32Bits(1 / shape[0])], {
    flops: 18 * size,
    bytes: 12 * size,
  });
}
