import {
  byteSize,
  checkArguments,
  f32Bits,
  numeric,
  programFamily,
  type Recorder,
  type Tensor,
} from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor, type FloatType, floats } from '../shared/checks.js';
import { flatType } from '../shared/flat.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { scalarTensor, vec4Tensor } from '../shared/wgsl.js';
import { workgroupReduction } from '../shared/workgroup.js';

const program = programFamily((dtype: FloatType, width: 1 | 4) => {
  const type = width === 4 ? 'vec4f' : 'f32';
  const tensor = width === 4 ? vec4Tensor : scalarTensor;
  return rowProgram({
    key: `rmsNorm ${dtype} ${type}`,
    bindings: ['read', 'read', 'write'],
    fields: 'eps: f32, offset: f32',
    declarations: `${tensor('x', 1, 'f32')}
${tensor('gain', 2, dtype)}
@group(0) @binding(3) var<storage, read_write> out: array<${type}>;
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}`,
    body: `
  let length = p.columns / ${width}u;
  let base = row * length;
  var squares = 0.0;
  for (var j = lane; j < length; j += ${ROW_LANES}u) {
    let value = x(base + j);
    squares += ${width === 4 ? 'dot(value, value)' : 'value * value'};
  }
  let factor = 1.0 / sqrt(sum(squares, lane) / f32(p.columns) + p.eps);
  for (var j = lane; j < length; j += ${ROW_LANES}u) { out[base + j] = x(base + j) * factor * (gain(j) + p.offset); }`,
  });
});

/**
 * RMS norm of each row: out = x / sqrt(mean(x^2) + eps) * (gain + offset); x, out [T,D] f32, gain [D] f32|f16|bf16.
 *
 * @param offset 1 in families that store gain - 1.
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function rmsNorm(rec: Recorder, x: Tensor, gain: Tensor, out: Tensor, eps: number, offset = 0): void {
  checkOperands('rmsNorm', rec, { x, gain, out });
  checkArguments('rmsNorm', { eps, offset }, { eps: numeric, offset: numeric });
  const shape = checkMatrix('rmsNorm', 'x', x);
  checkTensor('rmsNorm', 'gain', gain, [shape[1]], floats);
  checkTensor('rmsNorm', 'out', out, shape);
  runRows(
    rec,
    program(gain.dtype as FloatType, flatType(shape[1]).width),
    [x, gain, out],
    shape,
    [f32Bits(eps), f32Bits(offset)],
    {
      flops: 4 * x.size,
      bytes: 8 * x.size + byteSize(gain.dtype) * gain.size,
    },
  );
}
