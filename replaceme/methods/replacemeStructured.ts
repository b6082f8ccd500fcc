import { asBytes, downloadF32, Scope, type Tensor, tensorFromBytes } from '../../engine/index.js';
import { axpy, convert, downloadF64, quadraticLoss } from '../../kernels/index.js';
import { hasOutNorms, type Model } from '../../model/index.js';
import { leastSquaresCost } from '../fits/fitCost.js';
import { foldTransform } from '../fits/foldTransform.js';
import { identity } from '../fits/identity.js';
import type { LeastSquaresStatistics } from '../fits/leastSquares.js';
import { accumulateLeastSquares, repairByLeastSquares } from '../fits/leastSquaresRepair.js';
import { linearRefusal } from '../fits/linearRefusal.js';
import { orthogonalFactor } from '../fits/orthogonalFactor.js';
import type { LayerFit } from '../fits/repairInOrder.js';
import type { Method } from './method.js';

/** A window's statistics on the host; n hidden dimensions. */
interface HostStatistics {
  readonly n: number;
  /** G = M'M, [n,n]. */
  readonly gram: Float64Array;
  /** M'(L_j - Y_i) = C + G, [n,n]. */
  readonly rightSide: Float64Array;
}

/** Fits T [n,n] of one structure to the statistics; T is new in `scope`. */
type Structure = (statistics: HostStatistics, scope: Scope) => Promise<Tensor>;

/** One factor per dimension: argmin |M T - (L_j - Y_i)| among diagonal T. */
const diagonal: Structure = async ({ n, gram, rightSide }, scope) => {
  const values = new Float32Array(n * n);
  // A dimension that is always 0 keeps factor 1.
  for (let at = 0; at < n * n; at += n + 1) values[at] = gram[at]! > 0 ? rightSide[at]! / gram[at]! : 1;
  return scope.own(await tensorFromBytes(scope.device, asBytes(values), [n, n], 'f32', 'T'));
};

/** A rotation (with reflections): argmin |M T - (L_j - Y_i)| among orthogonal T (Procrustes' problem). */
const orthogonal: Structure = async ({ n, rightSide }, scope) =>
  scope.own((await orthogonalFactor(scope.device, rightSide, n, "M'(L - Y)")).factor);

async function fit(
  model: Model,
  layer: number,
  statistics: LeastSquaresStatistics,
  structure: Structure,
): Promise<LayerFit> {
  const { device, arch } = model;
  using _section = device.section('solve');
  using scope = new Scope(device);
  const gram = await downloadF64(statistics.gram);
  const rightSide = (await downloadF64(statistics.cross)).map((value, at) => value + gram[at]!);
  const host = { n: arch.hidden, gram, rightSide };
  const transform = await structure(host, scope);
  const details = { tokens: statistics.tokens, ...(await residuals(statistics, host, transform)) };
  const folded = hasOutNorms(arch)
    ? { mlpOutNorm: await foldIntoGain(model, layer, transform) }
    : await foldTransform(model, layer, transform);
  return { weights: folded, details };
}

/** Folds a diagonal T into the gain of the norm after down_proj, f32 [hidden]: t (gain + offset) - offset. */
async function foldIntoGain(model: Model, layer: number, transform: Tensor): Promise<Tensor> {
  const { device, arch } = model;
  const { offset } = arch.norm;
  using scope = new Scope(device);
  await model.loadLayer(layer);
  const gain = scope.tensor([arch.hidden], 'f32', 'gain');
  convert(device.recorder, model.weights.layers[layer]!.mlpOutNorm!, gain);
  const factors = await downloadF32(transform);
  const values = (await downloadF32(gain)).map(
    (value, i) => factors[i * (arch.hidden + 1)]! * (value + offset) - offset,
  );
  return tensorFromBytes(device, asBytes(values), [arch.hidden], 'f32', 'gain');
}

/** |M T - (L_j - Y_i)|_F / |L_j - Y_i|_F over the calibration tokens, of T and of plain removal, T = I. */
async function residuals(
  { gram, cross, targetSquares }: LeastSquaresStatistics,
  host: HostStatistics,
  transform: Tensor,
): Promise<{ relativeResidual: number; plainRelativeResidual: number }> {
  const { device, shape } = transform;
  const { n } = host;
  using scope = new Scope(device);
  // |L_j - Y_i|² from |L_j - L_i|², since L_j - Y_i = (L_j - L_i) + M.
  let target = targetSquares;
  for (let at = 0; at < n * n; at += n + 1) {
    target += 2 * host.rightSide[at]! - host.gram[at]!;
  }
  const delta = scope.tensor(shape, 'f32', 'T - I');
  device.recorder.copy(transform, delta);
  axpy(device.recorder, -1, await identity(scope, n, 'I'), delta);
  const squares = targetSquares + (await quadraticLoss(device, gram.hi, cross.hi, delta));
  return {
    relativeResidual: Math.sqrt(Math.max(0, squares) / target),
    plainRelativeResidual: Math.sqrt(targetSquares / target),
  };
}

const structured = (name: string, summary: string, structure: Structure): Method => ({
  name,
  summary,
  source: 'Shopkhoev et al., ReplaceMe (appendix A.3), arXiv:2505.02819',
  selection: 'cosine',
  needsCalibration: true,
  fitCost: leastSquaresCost,
  accumulate: accumulateLeastSquares,
  repair: (context, windows) =>
    repairByLeastSquares(context, windows, (model, layer, statistics) =>
      fit(model, layer, statistics, structure),
    ),
});

export const replacemeDiagonal: Method = structured(
  'replaceme-diagonal',
  'one factor per dimension in place of the layers, by least squares',
  diagonal,
);

export const replacemeOrthogonal: Method = {
  ...structured(
    'replaceme-orthogonal',
    'one orthogonal map in place of the layers, by least squares',
    orthogonal,
  ),
  refusal: linearRefusal,
};
