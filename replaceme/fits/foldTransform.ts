import { Scope, Tensor } from '../../engine/index.js';
import { convert, largeProduct, matmul } from '../../kernels/index.js';
import type { Model } from '../../model/index.js';

/** Folds a linear map T of a layer's MLP output into its down_proj: W' = Tᵀ W, b' = Tᵀ b. The caller disposes both. */
export async function foldTransform(
  model: Model,
  layer: number,
  transform: Tensor,
): Promise<{ down: Tensor; downBias?: Tensor }> {
  const { device } = model;
  await model.loadLayer(layer);
  // The solve left buffers of other sizes in the pool.
  await device.reclaim();
  const { down, downBias } = model.weights.layers[layer]!;
  using wide = Tensor.create(device, down.shape, 'f32', 'down_proj');
  convert(device.recorder, down, wide);
  // Allocate both outputs before recording, so that running out of memory leaves none behind.
  const results = new Scope(device);
  const output = (shape: readonly number[]) => results.tensor(shape, 'f32', 'folded down_proj');
  try {
    const folded = { down: output(down.shape), ...(downBias && { downBias: output(downBias.shape) }) };
    largeProduct(device.recorder, transform, wide, folded.down, { transposeA: true });
    if (downBias) {
      const column = [downBias.size, 1];
      const result = folded.downBias!.reshape(column);
      matmul(device.recorder, transform, downBias.reshape(column), result, { transposeA: true });
    }
    return folded;
  } catch (error) {
    results.dispose();
    throw error;
  }
}
