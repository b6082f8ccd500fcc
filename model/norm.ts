import type { Recorder, Tensor } from '../engine/index.js';
import { layerNorm } from '../kernels/layerNorm.js';
import { rmsNorm } from '../kernels/rmsNorm.js';
import type { Norm } from './architecture.js';

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
