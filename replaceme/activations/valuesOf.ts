import { downloadF32, Tensor } from '../../engine/index.js';
import { convert } from '../../kernels/index.js';

/** Downloads a tensor of floats of any type as f32. */
export async function valuesOf(tensor: Tensor): Promise<Float32Array> {
  using wide = Tensor.create(tensor.device, tensor.shape, 'f32', tensor.label);
  convert(tensor.device.recorder, tensor, wide);
  return await downloadF32(wide);
}
