import {
  checkArguments,
  type ProgramSpec,
  programFamily,
  type Recorder,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { type Activation, activationSlopeWgsl, activationWgsl, anActivation } from '../shared/activation.js';
import { checkMatrix, checkOperands, checkTensor, maybeTensor } from '../shared/checks.js';
import { flatProgram, flatType, runFlat } from '../shared/flat.js';

/** Settings of `gatedActivationBackward` and `activationBackward`. */
export interface ActivationBackwardOptions {
  activation: Activation;
  /** f32 [T,F]: receives the forward result if you pass it; the gradient of down_proj needs it. */
  features?: Tensor | undefined;
}

const backwardSettings = settings<ActivationBackwardOptions>({
  activation: anActivation,
  features: maybeTensor,
});

const program = programFamily(
  (activation: Activation, gated: boolean, features: boolean, type: 'vec4f' | 'f32'): ProgramSpec => {
    const names = ['gate', ...(gated ? ['up'] : []), ...(features ? ['features'] : [])];
    return flatProgram({
      key: `activationBackward ${activation}${gated ? ' gated' : ''}${features ? ' + features' : ''} ${type}`,
      bindings: ['read', ...names.map(() => 'write' as const)],
      declarations: `
alias T = ${type};
@group(0) @binding(1) var<storage, read> gradient: array<T>;
${names.map((name, n) => `@group(0) @binding(${n + 2}) var<storage, read_write> ${name}: array<T>;`).join('\n')}
${activationWgsl(activation)}
${activationSlopeWgsl(activation)}`,
      body: `
  let x = gate[i];
  let value = activation(x);
  ${gated ? 'let factor = up[i];' : 'let factor = T(1.0);'}
  gate[i] = gradient[i] * factor * slope(x);
  ${gated ? 'up[i] = gradient[i] * value;' : ''}
  ${features ? 'features[i] = value * factor;' : ''}`,
    });
  },
);

function record(
  rec: Recorder,
  kernel: string,
  inputs: Readonly<Record<string, Tensor>>,
  gradient: Tensor,
  options: ActivationBackwardOptions,
): void {
  checkArguments(kernel, { options }, { options: backwardSettings });
  const { activation, features } = options;
  const shape = checkMatrix(kernel, 'gradient', gradient);
  const outputs = { ...inputs, ...(features && { features }) };
  for (const [name, tensor] of Object.entries(outputs)) checkTensor(kernel, name, tensor, shape);
  const { type, width } = flatType(gradient.size);
  const tensors = [gradient, ...Object.values(outputs)];
  const gated = 'up' in inputs;
  runFlat(rec, program(activation, gated, features !== undefined, type), tensors, gradient.size / width, [], {
    flops: 12 * gradient.size,
    bytes: 4 * gradient.size * (2 * tensors.length - 1),
  });
}

/**
 * Backward pass of activation(gate) * up: overwrites gate and up [T,F] f32, the inputs of the forward pass, with their
 * gradients; gradient [T,F] f32 is that of the result. @throws RmError INVALID_ARGUMENT.
 */
export function gatedActivationBackward(
  rec: Recorder,
  gate: Tensor,
  up: Tensor,
  gradient: Tensor,
  options: ActivationBackwardOptions,
): void {
  checkOperands('gatedActivationBackward', rec, { gate, up, gradient });
  record(rec, 'gatedActivationBackward', { gate, up }, gradient, options);
}

/**
 * Backward pass of activation(x): overwrites x [T,F] f32 with its gradient; gradient [T,F] f32 is that of the result.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function activationBackward(
  rec: Recorder,
  x: Tensor,
  gradient: Tensor,
  options: ActivationBackwardOptions,
): void {
  checkOperands('activationBackward', rec, { x, gradient });
  record(rec, 'activationBackward', { x }, gradient, options);
}
