import type { Recorder, Tensor } from '../../engine/index.js';
import { layerNorm, layerNormBackward, rmsNorm, rmsNormBackward } from '../../kernels/index.js';
import type { Norm } from '../architecture/architecture.js';

/** out = norm of every row of x; x, out [T, D] f32, gain and bias [D]. */
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

/** Where the gradients of a norm go. */
export interface NormGradients {
  /** inputGradient += instead of = */
  readonly accumulate?: boolean;
  /** f32 [D], added to. */
  readonly weightGradient?: Tensor | undefined;
  readonly biasGradient?: Tensor | undefined;
}

/** Through `normalise`: inputGradient [T, D] (+)= that by x, of `gradient` by its output; all f32 but the gain. */
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
