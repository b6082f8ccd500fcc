import { type Recorder, Scope, Tensor } from '../../engine/index.js';
import { blockProduct, convert, matmul } from '../../kernels/index.js';
import type { Model } from '../../model/index.js';

/** out = Tᵀ W; T [d,d], W and out [d,n], all f32; W and out may be larger than a binding. */
function fold(rec: Recorder, transform: Tensor, weight: Tensor, out: Tensor): void {
  if (weight.byteLength <= weight.device.limits.maxStorageBufferBindingSize) {
    matmul(rec, transform, weight, out, { transposeA: true });
    return;
  }
  const [d, n] = [weight.rowCount, weight.columns];
  blockProduct(rec, {
    out: { matrix: out },
    a: { matrix: transform, transpose: true },
    b: { matrix: weight },
    shape: [d, n, d],
    op: 'add',
  });
}

/** Folds a linear map T of a layer's MLP output into its down_proj: W' = Tᵀ W, b' = Tᵀ b. The caller disposes both. */
export async function foldTransform(
  model: Model,
  layer: number,
  transform: Tensor,
): Promise<{ down: Tensor; downBias?: Tensor }> {
  const { device } = model;
  await model.loadLayer(layer);
  // The solve left buffers of other sizes in the pool.
  device.memory.trim();
  const { down, downBias } = model.weights.layers[layer]!;
  using wide = Tensor.create(device, down.shape, 'f32', 'down_proj');
  convert(device.recorder, down, wide);
  // Allocate both outputs before recording, so that running out of memory leaves none behind.
  const results = new Scope(device);
  const output = (shape: readonly number[]) => results.tensor(shape, 'f32', 'folded down_proj');
  try {
    const folded = { down: output(down.shape), ...(downBias && { downBias: output(downBias.shape) }) };
    fold(device.recorder, transform, wide, folded.down);
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
