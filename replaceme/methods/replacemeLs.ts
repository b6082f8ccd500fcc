import { hasOutNorms, type Model } from '../../model/index.js';
import { leastSquaresCost } from '../fits/fitCost.js';
import { foldTransform } from '../fits/foldTransform.js';
import { fitLeastSquares, type LeastSquaresFit, type LeastSquaresStatistics } from '../fits/leastSquares.js';
import { accumulateLeastSquares, repairByLeastSquares } from '../fits/leastSquaresRepair.js';
import { accumulateThroughNorm, repairThroughNorm } from '../fits/leastSquaresThroughNorm.js';
import type { LayerFit } from '../fits/repairInOrder.js';
import { type Method, settingsOf } from './method.js';

const tooFew = (tokens: number, hidden: number, alpha: number): string =>
  `${tokens} calibration tokens for ${hidden} dimensions: the least squares has no unique solution` +
  (alpha > 0 ? ', so the ridge (alpha) decides what the data leave open' : '; use more tokens or alpha > 0');

interface Found extends LeastSquaresFit {
  readonly tokens: number;
  /** Of a fit through a norm. */
  readonly rounds?: number;
}

async function folded(
  model: Model,
  layer: number,
  alpha: number,
  { transform, solve, tokens, rounds, ...residuals }: Found,
): Promise<LayerFit> {
  const { hidden } = model.arch;
  using _ = transform;
  return {
    weights: await foldTransform(model, layer, transform),
    warnings: tokens < hidden ? [tooFew(tokens, hidden, alpha)] : [],
    details: {
      tokens,
      alpha,
      ...residuals,
      ...(rounds !== undefined && { rounds }),
      conditionEstimate: solve.conditionEstimate,
      solver: solve.method,
      solverIterations: solve.iterations,
      solverRelativeResidual: solve.relativeResidual,
    },
  };
}

async function fit(
  model: Model,
  layer: number,
  statistics: LeastSquaresStatistics,
  alpha: number,
): Promise<LayerFit> {
  const found = await fitLeastSquares(model.device, statistics, alpha);
  const { tokens } = statistics;
  // Free the sums: the fold needs room.
  statistics[Symbol.dispose]();
  return await folded(model, layer, alpha, { ...found, tokens });
}

export const replacemeLs: Method = {
  name: 'replaceme-ls',
  summary: 'one linear map in place of the layers, by least squares with ridge alpha',
  source: 'Shopkhoev et al., ReplaceMe (Eqs. 6 and 9), arXiv:2505.02819',
  selection: 'cosine',
  reads: settingsOf('replaceme-ls'),
  needsCalibration: true,
  fitCost: leastSquaresCost,
  accumulate: (context, windows) =>
    hasOutNorms(context.model.arch)
      ? accumulateThroughNorm(context, windows)
      : accumulateLeastSquares(context, windows),
  repair(context, windows) {
    const { model, settings } = context;
    const { alpha } = settings;
    return hasOutNorms(model.arch)
      ? repairThroughNorm(context, windows, (layer, found) => folded(model, layer, alpha, found))
      : repairByLeastSquares(context, windows, (_, layer, statistics) =>
          fit(model, layer, statistics, alpha),
        );
  },
};
