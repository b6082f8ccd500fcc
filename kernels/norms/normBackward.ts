import {
  byteSize,
  checkArguments,
  f32Bits,
  flag,
  numeric,
  optional,
  programFamily,
  type Recorder,
  Scope,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { columnSums } from '../reduce/named.js';
import {
  checkMatrix,
  checkOperands,
  checkTensor,
  type FloatType,
  floats,
  maybeNumber,
  maybeTensor,
} from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { scalarTensor } from '../shared/wgsl.js';
import { workgroupReduction } from '../shared/workgroup.js';

/** Settings of `rmsNormBackward`. */
export interface NormBackwardOptions {
  eps: number;
  /** The offset of `rmsNorm`; default 0. */
  offset?: number;
  /** inputGradient += instead of = */
  accumulate?: boolean;
  /** f32 [D]: the gradient of weight or gain accumulates into it. */
  weightGradient?: Tensor | undefined;
}

/** Settings of `layerNormBackward`. */
export type LayerNormBackwardOptions = Omit<NormBackwardOptions, 'offset'> & {
  /** f32 [D]: the gradient of the bias accumulates into it. */
  biasGradient?: Tensor | undefined;
};

const normForms = { eps: numeric, accumulate: optional(flag), weightGradient: maybeTensor };
const rmsSettings = settings<NormBackwardOptions>({ ...normForms, offset: maybeNumber });
const layerSettings = settings<LayerNormBackwardOptions>({ ...normForms, biasGradient: maybeTensor });

/** WGSL of a loop over this invocation's columns j; `at` is the index of the element. */
const loop = (statement: string): string => `
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let at = row * p.columns + j;
    ${statement}
  }`;

const program = programFamily((kind: 'rms' | 'layer', dtype: FloatType) =>
  rowProgram({
    key: `${kind}NormBackward ${dtype}`,
    bindings: ['read', 'read', 'read', 'write', 'write'],
    fields: 'eps: f32, offset: f32, accumulate: u32',
    declarations: `${scalarTensor('x', 1, 'f32')}
${scalarTensor('weight', 2, dtype)}
${scalarTensor('gradient', 3, 'f32')}
@group(0) @binding(4) var<storage, read_write> inputGradient: array<f32>;
@group(0) @binding(5) var<storage, read_write> statistics: array<vec2f>;
${workgroupReduction('sum', ROW_LANES, 'vec2f', 'a + b')}`,
    body: `
  let count = f32(p.columns);
  var mean = 0.0;
  var part = vec2f(0.0);
  ${
    kind === 'layer'
      ? `${loop('part.x += x(at);')}
  mean = sum(part, lane).x / count;
  part = vec2f(0.0);`
      : ''
  }
  ${loop('let value = x(at) - mean; part.x += value * value;')}
  let factor = 1.0 / sqrt(sum(part, lane).x / count + p.eps);
  part = vec2f(0.0);
  ${loop('let a = gradient(at) * (weight(j) + p.offset); part += vec2f(a, a * ((x(at) - mean) * factor));')}
  let means = sum(part, lane) / count;
  ${loop(`let slope = factor * (gradient(at) * (weight(j) + p.offset)${kind === 'layer' ? ' - means.x' : ''} - (x(at) - mean) * factor * means.y);
    if (p.accumulate != 0u) { inputGradient[at] += slope; } else { inputGradient[at] = slope; }`)}
  if (lane == 0u) { statistics[row] = vec2f(mean, factor); }`,
  }),
);

function record(
  rec: Recorder,
  kind: 'rms' | 'layer',
  x: Tensor,
  weight: Tensor,
  gradient: Tensor,
  inputGradient: Tensor,
  { eps, offset = 0, accumulate = false, weightGradient }: NormBackwardOptions,
): void {
  const kernel = `${kind}NormBackward`;
  const shape = checkMatrix(kernel, 'x', x);
  const [rows, columns] = shape;
  checkTensor(kernel, 'weight', weight, [columns], floats);
  checkTensor(kernel, 'gradient', gradient, shape);
  checkTensor(kernel, 'inputGradient', inputGradient, shape);
  if (weightGradient) checkTensor(kernel, 'weightGradient', weightGradient, [columns]);
  using scope = new Scope(x.device);
  const statistics = scope.tensor([rows, 2], 'f32', 'means and factors');
  runRows(
    rec,
    program(kind, weight.dtype as FloatType),
    [x, weight, gradient, inputGradient, statistics],
    shape,
    [f32Bits(eps), f32Bits(offset), accumulate ? 1 : 0],
    { flops: 14 * x.size, bytes: 12 * x.size + byteSize(weight.dtype) * columns },
  );
  if (weightGradient) {
    columnSums(rec, gradient, weightGradient, { accumulate: true, normalised: { of: x, statistics } });
  }
}

/**
 * Backward pass of `rmsNorm`: inputGradient [T,D] f32 (+)= the gradient of x, weightGradient += that of the gain [D];
 * gradient [T,D] f32 is that of the output. @throws RmError INVALID_ARGUMENT.
 */
export function rmsNormBackward(
  rec: Recorder,
  x: Tensor,
  gain: Tensor,
  gradient: Tensor,
  inputGradient: Tensor,
  options: NormBackwardOptions,
): void {
  checkOperands('rmsNormBackward', rec, { x, gain, gradient, inputGradient });
  checkArguments('rmsNormBackward', { options }, { options: rmsSettings });
  record(rec, 'rms', x, gain, gradient, inputGradient, options);
}

/**
 * Backward pass of `layerNorm`, like `rmsNormBackward`; the gradient of the bias accumulates into biasGradient f32 [D].
 *
 * @throws RmError INVALID_ARGUMENT.
 */
export function layerNormBackward(
  rec: Recorder,
  x: Tensor,
  weight: Tensor,
  gradient: Tensor,
  inputGradient: Tensor,
  options: LayerNormBackwardOptions,
): void {
  checkOperands('layerNormBackward', rec, { x, weight, gradient, inputGradient });
  checkArguments('layerNormBackward', { options }, { options: layerSettings });
  record(rec, 'layer', x, weight, gradient, inputGradient, options);
  if (options.biasGradient) columnSums(rec, gradient, options.biasGradient, { accumulate: true });
}
