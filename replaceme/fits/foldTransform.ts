import { Scope, Tensor } from '../../engine/index.js';
import { convert, largeProduct, matmul } from '../../kernels/index.js';
import type { LayerWeights, Model } from '../../model/index.js';

/**
 * Folds a linear map T of a layer's MLP output into its down_proj, in a layer of experts into that of each of them: W' = Tᵀ W,
 * b' = Tᵀ b. The caller disposes the weights.
 */
export async function foldTransform(
  model: Model,
  layer: number,
  transform: Tensor,
): Promise<Partial<LayerWeights> & Pick<LayerWeights, 'down'>> {
  const { device } = model;
  await model.loadLayer(layer);
  // The solve left buffers of other sizes in the pool.
  await device.reclaim();
  const { down, downBias, sharedDown } = model.weights.layers[layer]!;
  const { hidden } = model.arch;
  using results = new Scope(device);
  // All outputs before anything is recorded, so that running out of memory leaves nothing behind.
  const output = ({ shape }: Tensor) => results.tensor(shape, 'f32', 'folded down_proj');
  const folded = {
    down: output(down),
    ...(downBias && { downBias: output(downBias) }),
    ...(sharedDown && { sharedDown: output(sharedDown) }),
  };
  foldStack(transform, down, folded.down);
  if (sharedDown) foldStack(transform, sharedDown, folded.sharedDown!);
  if (downBias) {
    const rows = [downBias.size / hidden, hidden];
    matmul(device.recorder, downBias.reshape(rows), transform, folded.downBias!.reshape(rows));
  }
  results.releaseAll();
  return folded;
}

/** Tᵀ W for each of the matrices [hidden, features] that lie one below the other. */
function foldStack(transform: Tensor, stack: Tensor, out: Tensor): void {
  const { device, label, columns, dtype } = stack;
  const hidden = transform.columns;
  if (stack.rowCount === hidden) {
    using wide = Tensor.create(device, stack.shape, 'f32', label);
    convert(device.recorder, stack, wide);
    largeProduct(device.recorder, transform, wide, out, { transposeA: true });
    return;
  }
  for (let row = 0; row < stack.rowCount; row += hidden) {
    using scope = new Scope(device);
    const one = scope.tensor([hidden, columns], dtype, label);
    const [wide, product] = [scope.tensor(one.shape, 'f32', label), scope.tensor(one.shape, 'f32', label)];
    // Matrices of a stack may begin where no binding can.
    device.recorder.copy(stack.rows(row, hidden), one);
    convert(device.recorder, one, wide);
    largeProduct(device.recorder, transform, wide, product, { transposeA: true });
    device.recorder.copy(product, out.rows(row, hidden));
  }
}
