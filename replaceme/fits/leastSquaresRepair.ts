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
      using statistics = await leastSquaresStatistics(pass);
      if (pass.unpruned) await context.statistics?.put(keyOf(window), sumsOf(statistics));
      return await fit(pass.model, window.layer, statistics);
    },
    async window => {
      using scope = new Scope(context.model.device);
      const sums = await context.statistics?.get(keyOf(window), scope);
      if (!sums) return undefined;
      using statistics = statisticsFrom(sums, scope);
      return await fit(context.model, window.layer, statistics);
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
