import {
  checkArguments,
  f32Bits,
  numeric,
  programFamily,
  type Recorder,
  type Tensor,
} from '../../engine/index.js';
import {
  checkMatrix,
  checkOperands,
  checkTensor,
  type FloatType,
  floats,
  maybeTensor,
} from '../shared/checks.js';
import { flatType } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { scalarTensor, vec4Tensor } from '../shared/wgsl.js';
import { workgroupReduction } from '../shared/workgroup.js';

const program = programFamily((width: 1 | 4, weight: FloatType, bias: FloatType | 'none') => {
  const type = width === 4 ? 'vec4f' : 'f32';
  const tensor = width === 4 ? vec4Tensor : scalarTensor;
  return rowProgram({
    key: `layerNorm ${weight} ${type}, bias ${bias}`,
    bindings: ['read', 'read', 'write', ...(bias === 'none' ? [] : (['read'] as const))],
    fields: 'eps: f32',
    declarations: `${tensor('x', 1, 'f32')}
${tensor('weight', 2, weight)}
@group(0) @binding(3) var<storage, read_write> out: array<${type}>;
${bias === 'none' ? '' : tensor('bias', 4, bias)}
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}`,
    body: `
  let length = p.columns / ${width}u;
  let base = row * length;
  var part = 0.0;
  for (var j = lane; j < length; j += ${ROW_LANES}u) {
    part += ${width === 4 ? 'dot(x(base + j), vec4f(1.0))' : 'x(base + j)'};
  }
  let mean = sum(part, lane) / f32(p.columns);
  part = 0.0;
  for (var j = lane; j < length; j += ${ROW_LANES}u) {
    let value = x(base + j) - mean;
    part += ${width === 4 ? 'dot(value, value)' : 'value * value'};
  }
  let factor = 1.0 / sqrt(sum(part, lane) / f32(p.columns) + p.eps);
  for (var j = lane; j < length; j += ${ROW_LANES}u) {
    out[base + j] = (x(base + j) - mean) * factor * weight(j)${bias === 'none' ? '' : ' + bias(j)'};
  }`,
  });
});

/**
 * Layer norm of each row: out = (x - mean) / sqrt(variance + eps) * weight (+ bias); x, out [T,D] f32, weight and bias
 * [D] f32|f16|bf16. @throws RmError INVALID_ARGUMENT.
 */
export function layerNorm(
  rec: Recorder,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  out: Tensor,
  eps: number,
): void {
  checkOperands('layerNorm', rec, { x, weight, out });
  checkArguments('layerNorm', { bias, eps }, { bias: maybeTensor, eps: numeric });
  const shape = checkMatrix('layerNorm', 'x', x);
  checkTensor('layerNorm', 'weight', weight, [shape[1]], floats);
  if (bias) checkTensor('layerNorm', 'bias', bias, [shape[1]], floats);
  checkTensor('layerNorm', 'out', out, shape);
  runRows(
    rec,
    program(
      flatType(shape[1]).width,
      weight.dtype as FloatType,
      (bias?.dtype as FloatType | undefined) ?? 'none',
    ),
    [x, weight, out, ...(bias ? [bias] : [])],
    shape,
    [f32Bits(eps)],
    {
      flops: 8 * x.size,
      bytes: 8 * x.size + weight.byteLength + (bias?.byteLength ?? 0),
    },
  );
}
