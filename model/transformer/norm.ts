import type { Recorder, Tensor } from '../../engine/index.js';
import { layerNorm, layerNormBackward, rmsNorm, rmsNormBackward } from '../../kernels/index.js';
import type { Norm } from '../architecture/architecture.js';

/** Normalises every row of x into out; x, out [T, D] f32, gain and bias [D]. */
export function normalise(
  rec: Recorder,
  { kind, eps, offset }: Norm,
  x: Tensor,
  [gain, bias]: readonly [gain: Tensor, bias: Tensor | undefined],
  out: Tensor,
): void {
  if (kind === 'layer') layerNorm(rec, x, gain, bias, out, eps);
  else rmsNorm(rec, x, gain, out, eps, offset);
}

/** Targets of a norm's gradients. */
interface NormGradients {
  /** inputGradient += instead of = */
  readonly accumulate?: boolean;
  /** f32 [D], accumulated. */
  readonly weightGradient?: Tensor | undefined;
  readonly biasGradient?: Tensor | undefined;
}

/** Backward pass of `normalise`: from the output's `gradient`, inputGradient [T, D] (+)= the gradient of x; all f32 but the gain. */
export function normaliseBackward(
  rec: Recorder,
  { kind, eps, offset }: Norm,
  x: Tensor,
  gain: Tensor,
  gradient: Tensor,
  inputGradient: Tensor,
  { accumulate = false, weightGradient, biasGradient }: NormGradients,
): void {
  const options = { eps, accumulate, weightGradient };
  if (kind === 'layer')
    layerNormBackward(rec, x, gain, gradient, inputGradient, { ...options, biasGradient });
  else rmsNormBackward(rec, x, gain, gradient, inputGradient, { ...options, offset });
}
