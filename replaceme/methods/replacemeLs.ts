import type { Model } from '../../model/index.js';
import { leastSquaresCost } from '../fits/fitCost.js';
import { foldTransform } from '../fits/foldTransform.js';
import { fitLeastSquares, type LeastSquaresStatistics } from '../fits/leastSquares.js';
import { accumulateLeastSquares, repairByLeastSquares } from '../fits/leastSquaresRepair.js';
import { linearRefusal } from '../fits/linearRefusal.js';
import type { LayerFit } from '../fits/repairInOrder.js';
import { type Method, settingsOf } from './method.js';

const tooFew = (tokens: number, hidden: number, alpha: number): string =>
  `${tokens} calibration tokens for ${hidden} dimensions: the least squares has no unique solution` +
  (alpha > 0 ? ', so the ridge (alpha) decides what the data leave open' : '; use more tokens or alpha > 0');

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
  // Free the sums: the fold needs room.
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
  reads: settingsOf('replaceme-ls'),
  needsCalibration: true,
  refusal: linearRefusal,
  fitCost: leastSquaresCost,
  accumulate: accumulateLeastSquares,
  repair: (context, windows) =>
    repairByLeastSquares(context, windows, (model, layer, statistics) =>
      fit(model, layer, statistics, context.settings.alpha),
    ),
};
