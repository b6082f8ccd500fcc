import { Scope } from '../../engine/index.js';
import type { Model } from '../../model/index.js';
import { lastRemoved, type Window } from '../run/window.js';
import type { SumsKey } from '../statistics/statisticsStore.js';
import { accumulateWindows } from './accumulateWindows.js';
import {
  type LeastSquaresStatistics,
  leastSquaresStatistics,
  statisticsFrom,
  sumsOf,
} from './leastSquares.js';
import { massiveWatch } from './massiveActivations.js';
import type { AccumulateContext, Repair, RepairContext } from './repair.js';
import { type LayerFit, repairInOrder } from './repairInOrder.js';

/** Fits layer `layer`, which stays before a window, from the window's statistics. */
type FitStatistics = (model: Model, layer: number, statistics: LeastSquaresStatistics) => Promise<LayerFit>;

const keyOf = (window: Window): SumsKey => ({
  kind: 'ls',
  layer: window.layer,
  target: lastRemoved(window),
  weighting: 'w = 1',
});

/** A fit with further warnings. */
export const withWarnings = (fit: LayerFit, warnings: readonly string[]): LayerFit => ({
  ...fit,
  warnings: [...(fit.warnings ?? []), ...warnings],
});

/** repairInOrder for methods that need only least-squares statistics, which a statistics file may already hold. */
export const repairByLeastSquares = (
  context: RepairContext,
  windows: readonly Window[],
  fit: FitStatistics,
): Promise<Repair> =>
  repairInOrder(
    context,
    windows,
    async (pass, window) => {
      const { look, warnings } = massiveWatch(context, window);
      using statistics = await leastSquaresStatistics(pass, undefined, look);
      if (pass.unpruned) await context.statistics?.put(keyOf(window), sumsOf(statistics));
      const said = warnings(statistics);
      return withWarnings(await fit(pass.model, window.layer, statistics), said);
    },
    async window => {
      using scope = new Scope(context.model.device);
      const sums = await context.statistics?.get(keyOf(window), scope);
      if (!sums) return undefined;
      using statistics = statisticsFrom(sums, scope);
      const said = massiveWatch(context, window).warnings(statistics);
      return withWarnings(await fit(context.model, window.layer, statistics), said);
    },
  );

/** Sums the statistics that `repairByLeastSquares` then finds in the statistics file. */
export const accumulateLeastSquares = (
  context: AccumulateContext,
  windows: readonly Window[],
): Promise<boolean> =>
  accumulateWindows(
    context,
    windows,
    async window => context.statistics?.has(keyOf(window)) ?? false,
    async (pass, window) => {
      using statistics = await leastSquaresStatistics(pass);
      await context.into.put(keyOf(window), sumsOf(statistics));
      return true;
    },
  );
