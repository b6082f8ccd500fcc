import { Scope, Tensor } from '../../engine/index.js';
import { convert } from '../../kernels/convert.js';
import { matmul } from '../../kernels/matmul.js';
import type { Model } from '../../model/model.js';
import { fitLeastSquares, leastSquaresStatistics } from '../leastSquares.js';
import type { Window } from '../window.js';
import type { Fit, FitContext, Method } from './method.js';

/** One linear map T on the MLP output of the window's layer, folded into its down_proj: W' = Tᵀ W, b' = Tᵀ b. */
export function foldTransform(
  model: Model,
  window: Window,
  transform: Tensor,
): { down: Tensor; downBias?: Tensor } {
  const { device } = model;
  const { down, downBias } = model.weights.layers[window.layer]!;
  using wide = Tensor.create(device, down.shape, 'f32', 'down_proj');
  convert(device.recorder, down, wide);
  // Both outputs exist before anything is recorded, so that a lack of memory leaves none behind.
  const results = new Scope(device);
  const output = (shape: readonly number[]) => results.tensor(shape, 'f32', 'folded down_proj');
  try {
    const folded = { down: output(down.shape), ...(downBias && { downBias: output(downBias.shape) }) };
    matmul(device.recorder, transform, wide, folded.down, { transposeA: true });
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

async function fit({ model, window, batches, states, alpha, ...walk }: FitContext): Promise<Fit> {
  const statistics = await leastSquaresStatistics(model, batches, window, { ...walk, states });
  try {
    const { transform, solve, relativeResidual, plainRelativeResidual } = await fitLeastSquares(
      model.device,
      statistics,
      alpha,
    );
    using _ = transform;
    return {
      ...foldTransform(model, window, transform),
      details: {
        tokens: statistics.tokens,
        alpha,
        relativeResidual,
        plainRelativeResidual,
        conditionEstimate: solve.conditionEstimate,
        solver: solve.method,
        solverIterations: solve.iterations,
        solverRelativeResidual: solve.relativeResidual,
      },
    };
  } finally {
    statistics.dispose();
  }
}

export const replacemeLs: Method = {
  name: 'replaceme-ls',
  summary: 'replace the layers by one linear map, fitted by least squares with ridge alpha',
  source: 'Shopkhoev et al., ReplaceMe (Eqs. 6 and 9), arXiv:2505.02819',
  needsCalibration: true,
  fit,
};
