import { Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { addTransposed, axpy, quadraticLoss, scaleRows } from '../../kernels/index.js';
import type { Model } from '../../model/index.js';
import { valuesOf } from '../activations/valuesOf.js';
import { lastRemoved, type Window } from '../run/window.js';
import type { StatisticsStore, SumsKey } from '../statistics/statisticsStore.js';
import { accumulateWindows } from './accumulateWindows.js';
import type { FitPass } from './fitPass.js';
import { NORM_ROUNDS } from './fitThroughNorm.js';
import { identity } from './identity.js';
import {
  fitLeastSquares,
  type LeastSquaresFit,
  type LeastSquaresStatistics,
  leastSquaresStatistics,
  statisticsFrom,
  sumsOf,
} from './leastSquares.js';
import { withWarnings } from './leastSquaresRepair.js';
import { massiveWatch } from './massiveActivations.js';
import type { AccumulateContext, Repair, RepairContext } from './repair.js';
import { type LayerFit, repairInOrder } from './repairInOrder.js';

/** Statistics of a round: M divided by what the norm divides it by with this T in place; undefined to end there. */
type RoundStatistics = (round: number, transform: Tensor) => Promise<LeastSquaresStatistics | undefined>;

interface NormedFit extends LeastSquaresFit {
  readonly tokens: number;
  readonly rounds: number;
}

/**
 * ReplaceMe's T before a norm: L_j = Y + g * (M T) / r with r = rms(M T). While r is held, X = T diag(g) is the least squares
 * of L_j - Y on M / r. A few rounds reach a T that leaves r alone; one that made things worse is taken back.
 *
 * @returns undefined where `statisticsOf` ended the rounds. The caller disposes the transform.
 */
export async function fitTransformRounds(
  model: Model,
  layer: number,
  alpha: number,
  statisticsOf: RoundStatistics,
): Promise<NormedFit | undefined> {
  const { device, arch } = model;
  using scope = new Scope(device);
  const gains = await gainsOf(model, layer);
  const inverse = gains.map(gain => (gain === 0 ? 0 : 1 / gain));
  let transform = await identity(scope, arch.hidden, 'T');
  let before = transform;
  let x = timesColumns(scope, transform, gains);
  let found: Omit<NormedFit, 'transform' | 'plainRelativeResidual'> | undefined;
  const residuals: number[] = [];
  for (let round = 0; round < NORM_ROUNDS; round++) {
    using statistics = await statisticsOf(round, transform);
    if (!statistics) return undefined;
    const residual = await residualOf(statistics, x);
    if (residual > residuals.at(-1)!) {
      transform = before;
      break;
    }
    residuals.push(residual);
    const { transform: fitted, ...numbers } = await fitLeastSquares(device, statistics, alpha);
    x = scope.own(fitted);
    before = transform;
    transform = timesColumns(scope, x, inverse);
    found = { ...numbers, tokens: statistics.tokens, rounds: round + 1 };
  }
  return { ...found!, transform: scope.release(transform), plainRelativeResidual: residuals[0]! };
}

/** Gains of the norm behind the MLP, as they multiply. */
async function gainsOf(model: Model, layer: number): Promise<Float32Array> {
  await model.loadLayer(layer);
  const gains = await valuesOf(model.weights.layers[layer]!.mlpOutNorm!);
  return gains.map(value => value + model.arch.norm.offset);
}

/** A diag(factors) of a square matrix, in `scope`. */
function timesColumns(scope: Scope, a: Tensor, factors: Float32Array): Tensor {
  const rec = a.device.recorder;
  const [transposed, scaled, out] = [0, 1, 2].map(() => scope.tensor(a.shape, 'f32', 'T')) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  for (const tensor of [transposed, out]) rec.clear(tensor);
  addTransposed(rec, a, 1, transposed);
  scaleRows(rec, transposed, scope.own(tensorFrom(a.device, factors)), scaled);
  addTransposed(rec, scaled, 1, out);
  return out;
}

/** |A X - D| / |D| for the statistics of A and D - A. */
async function residualOf(
  { gram, cross, targetSquares }: LeastSquaresStatistics,
  x: Tensor,
): Promise<number> {
  const { device, shape } = x;
  using scope = new Scope(device);
  const one = await identity(scope, x.columns, 'I');
  const squaresWith = async (factor: number) => {
    const change = scope.tensor(shape, 'f32', 'change');
    device.recorder.clear(change);
    axpy(device.recorder, -1, one, change);
    axpy(device.recorder, factor, x, change);
    return Math.max(0, targetSquares + (await quadraticLoss(device, gram.hi, cross.hi, change)));
  };
  return Math.sqrt((await squaresWith(1)) / (await squaresWith(0)));
}

const keyOf = (window: Window, round: number): SumsKey => ({
  kind: 'ls through the norm',
  layer: window.layer,
  target: lastRemoved(window),
  weighting: `w = 1, round ${round}`,
});

/** The sums of a round as a statistics file has them. */
const storedRound =
  (model: Model, store: StatisticsStore | undefined, window: Window): RoundStatistics =>
  async round => {
    using scope = new Scope(model.device);
    const sums = await store?.get(keyOf(window, round), scope);
    return sums && statisticsFrom(sums, scope);
  };

/** Repairs windows by a T before the norm behind the MLP; `layerFit` folds it. */
export function repairThroughNorm(
  context: RepairContext,
  windows: readonly Window[],
  layerFit: (layer: number, fit: NormedFit) => Promise<LayerFit>,
): Promise<Repair> {
  const { model, settings, statistics: store } = context;
  const fit = async (
    window: Window,
    statisticsOf: RoundStatistics,
    { warnings } = massiveWatch(context, window),
  ) => {
    const said: string[] = [];
    const found = await fitTransformRounds(model, window.layer, settings.alpha, async (round, transform) => {
      const statistics = await statisticsOf(round, transform);
      if (statistics && round === 0) said.push(...warnings(statistics));
      return statistics;
    });
    return found && withWarnings(await layerFit(window.layer, found), said);
  };
  return repairInOrder(
    context,
    windows,
    async (pass, window) => {
      const watch = massiveWatch(context, window);
      const fitted = await fit(
        window,
        async (round, transform) => {
          const look = round === 0 ? watch.look : undefined;
          const statistics = await leastSquaresStatistics(pass, transform, look);
          if (pass.unpruned) await store?.put(keyOf(window, round), sumsOf(statistics));
          return statistics;
        },
        watch,
      );
      return fitted!;
    },
    window => fit(window, storedRound(model, store, window)),
  );
}

/** Sums the first round that the statistics file lacks. */
export function accumulateThroughNorm(
  context: AccumulateContext,
  windows: readonly Window[],
): Promise<boolean> {
  const { model, settings, statistics: store, into } = context;
  const fit = (window: Window, statisticsOf: RoundStatistics) =>
    fitTransformRounds(model, window.layer, settings.alpha, statisticsOf);
  return accumulateWindows(
    context,
    windows,
    async window => {
      const found = await fit(window, storedRound(model, store, window));
      found?.transform.dispose();
      return found !== undefined;
    },
    async (pass: FitPass, window) => {
      const stored = storedRound(model, store, window);
      await fit(window, async (round, transform) => {
        const earlier = await stored(round, transform);
        if (earlier) return earlier;
        using statistics = await leastSquaresStatistics(pass, transform);
        await into.put(keyOf(window, round), sumsOf(statistics));
        return undefined;
      });
      // The number of rounds depends on their sums.
      return false;
    },
  );
}
