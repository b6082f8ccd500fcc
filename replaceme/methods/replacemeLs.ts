import { type Recorder, Scope, Tensor } from '../../engine/index.js';
import { blockProduct } from '../../kernels/blockProduct/blockProduct.js';
import { convert } from '../../kernels/elementwise/convert.js';
import { matmul } from '../../kernels/matmul/matmul.js';
import type { Model } from '../../model/transformer/model.js';
import { fitLeastSquares, type LeastSquaresStatistics } from '../fits/leastSquares.js';
import { gatherLeastSquares, repairByLeastSquares } from '../fits/leastSquaresRepair.js';
import { linearRefusal } from '../fits/linearRefusal.js';
import type { LayerFit } from '../fits/repairInOrder.js';
import type { Method } from './method.js';

/** out = Tᵀ W; T [d,d], W and out [d,n], f32, which may be larger than a binding. */
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

/** One linear map T on the MLP output of a layer, folded into its down_proj: W' = Tᵀ W, b' = Tᵀ b. */
export async function foldTransform(
  model: Model,
  layer: number,
  transform: Tensor,
): Promise<{ down: Tensor; downBias?: Tensor }> {
  const { device } = model;
  await model.hold(layer);
  // What the solve has left in the pool has other sizes.
  device.memory.trim();
  const { down, downBias } = model.weights.layers[layer]!;
  using wide = Tensor.create(device, down.shape, 'f32', 'down_proj');
  convert(device.recorder, down, wide);
  // Both outputs exist before anything is recorded, so that a lack of memory leaves none behind.
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

const tooFew = (tokens: number, hidden: number, alpha: number): string =>
  `${tokens} calibration tokens for ${hidden} dimensions: the least squares has no unique solution` +
  (alpha > 0 ? ', the ridge (alpha) decides what the data leave open' : '; use more tokens or alpha > 0');

async function fit(
  model: Model,
  layer: number,
  statistics: LeastSquaresStatistics,
  alpha: number,
): Promise<LayerFit> {
  const { device, arch } = model;
  const { transform, solve, relativeResidual, plainRelativeResidual } = await fitLeastSquares(
    device,
    statistics,
    alpha,
  );
  using _ = transform;
  const { tokens } = statistics;
  // The fold needs room, and the sums have done what they were for.
  statistics[Symbol.dispose]();
  return {
    weights: await foldTransform(model, layer, transform),
    warnings: tokens < arch.hidden ? [tooFew(tokens, arch.hidden, alpha)] : [],
    details: {
      tokens,
      alpha,
      relativeResidual,
      plainRelativeResidual,
      conditionEstimate: solve.conditionEstimate,
      solver: solve.method,
      solverIterations: solve.iterations,
      solverRelativeResidual: solve.relativeResidual,
    },
  };
}

export const replacemeLs: Method = {
  name: 'replaceme-ls',
  summary: 'one linear map in place of the layers, by least squares with ridge alpha',
  source: 'Shopkhoev et al., ReplaceMe (Eqs. 6 and 9), arXiv:2505.02819',
  selection: 'cosine',
  reads: ['alpha'],
  needsCalibration: true,
  refusal: linearRefusal,
  gathers: 'outputs Gram',
  gather: gatherLeastSquares,
  repair: (context, windows) =>
    repairByLeastSquares(context, windows, (model, layer, statistics) =>
      fit(model, layer, statistics, context.settings.alpha),
    ),
};
