import { Scope } from '../../engine/index.js';
import type { Model } from '../../model/index.js';
import { batchedTokens } from '../calibration/calibrationBatch.js';
import { accumulateWindows } from '../fits/accumulateWindows.js';
import { refitCost } from '../fits/fitCost.js';
import type { FitPass } from '../fits/fitPass.js';
import type { ProjectionFits } from '../fits/fitProjections.js';
import type { ProjectionSums, SumsRequest, SumsSource } from '../fits/projectionFit.js';
import { accumulateRefit, refitFromCache, refitLayer } from '../fits/refitLayer.js';
import { tokenWeighting } from '../fits/refitPass.js';
import type { AccumulateContext, RepairContext, RepairDetails, RepairSettings } from '../fits/repair.js';
import { type LayerFit, repairInOrder } from '../fits/repairInOrder.js';
import { isEarly, lastRemoved, type Window } from '../run/window.js';
import type { SumsKey } from '../statistics/statisticsStore.js';
import { type Method, settingsOf } from './method.js';

/** In an early layer, moving o_proj gains little on one text and loses much on another (docs/lab-notes.md). */
const defaultStep = (window: Window, layers: number): number => (isEarly([window], layers) ? 0 : 0.5);

/** How far o_proj moves: as asked, or as it suits the place of the window. */
export const attentionStepOf = ({ arch }: Model, window: Window, settings: RepairSettings): number =>
  settings.attentionStep ?? defaultStep(window, arch.layers);

const optionsOf = (model: Model, window: Window, settings: RepairSettings) => ({
  ...settings,
  attentionStep: attentionStepOf(model, window, settings),
});

const keyOf = (window: Window, settings: RepairSettings, { projection, after }: SumsRequest): SumsKey => ({
  kind: `refit ${projection}_proj`,
  layer: window.layer,
  target: lastRemoved(window),
  weighting: `${tokenWeighting(settings)}${after}`,
});

async function fit(
  { inputs, targets, unpruned }: FitPass,
  window: Window,
  { settings, statistics: store }: RepairContext,
): Promise<LayerFit> {
  const { tokenResidual, sinkResidual, ...fits } = await refitLayer(
    inputs,
    { output: (index, scope) => targets.state(index, scope) },
    {
      ...optionsOf(inputs.model, window, settings),
      ...(unpruned && {
        onStatistics: async (request, statistics) =>
          store?.put(keyOf(window, settings, request), await statistics.sums()),
      }),
    },
  );
  inputs.arriveAt(lastRemoved(window) + 1);
  return layerFit(fits, inputs.tokens, { tokenResidual, sinkResidual });
}

/** Reads the sums of earlier runs or rounds. */
const cachedSums =
  ({ model, settings, statistics: store }: RepairContext, window: Window): SumsSource =>
  async (request, statistics) => {
    using scope = new Scope(model.device);
    const sums = await store?.get(keyOf(window, settings, request), scope);
    if (sums) await statistics.restore(sums);
    return sums !== undefined;
  };

async function fitFromCache(context: RepairContext, window: Window): Promise<LayerFit | undefined> {
  const { model, batches, settings, statistics } = context;
  if (!statistics) return undefined;
  const options = optionsOf(model, window, settings);
  const fits = await refitFromCache(model, window.layer, options, cachedSums(context, window));
  return fits && layerFit(fits, batchedTokens(batches));
}

const accumulate = (context: AccumulateContext, windows: readonly Window[]): Promise<boolean> =>
  accumulateWindows(
    context,
    windows,
    async window => {
      const cached = await fitFromCache(context, window);
      for (const tensor of Object.values(cached?.weights ?? {})) tensor?.dispose();
      return cached !== undefined;
    },
    ({ inputs, targets }, window) => {
      const { model, settings, into } = context;
      const options = {
        ...optionsOf(model, window, settings),
        onStatistics: async (request: SumsRequest, statistics: ProjectionSums) =>
          into.put(keyOf(window, settings, request), await statistics.sums()),
      };
      const output = (index: number, scope: Scope) => targets.state(index, scope);
      return accumulateRefit(inputs, { output }, options, cachedSums(context, window));
    },
  );

/** The result of a refit for the report. */
export const layerFit = (
  { weights, attention, mlp, paths }: ProjectionFits,
  tokens: number,
  residuals: RepairDetails = {},
): LayerFit => ({
  weights,
  paths,
  details: {
    tokens,
    attentionRidge: attention?.ridge ?? 'kept',
    ridge: mlp?.ridge ?? 'kept',
    ...(mlp?.heldOut !== undefined && { heldOutResidual: mlp.heldOut }),
    ...residuals,
  },
});

/** Fits the whole down_proj (and o_proj half the way) of the layer that stays, instead of a map of its output. */
export const refit: Method = {
  name: 'refit',
  summary: 'refit the projections of the layer that stays by ridge regression, ridge by held-out tokens',
  source: 'our own, after ReplaceMe, arXiv:2505.02819',
  selection: 'measured',
  reads: settingsOf('refit'),
  needsCalibration: true,
  fitCost: run => {
    const { arch, settings, windows } = run;
    const step = settings.attentionStep ?? (windows && isEarly(windows, arch.layers) ? 0 : undefined);
    return refitCost(run, { attention: step === 0 ? 0 : 2, mlp: true });
  },
  accumulate,
  repair: (context, windows) =>
    repairInOrder(
      context,
      windows,
      (pass, window) => fit(pass, window, context),
      window => fitFromCache(context, window),
    ),
};

/** The context with closed-form healing: as the settings ask for it, else of o_proj and down_proj. */
export const healing = (context: RepairContext): RepairContext => ({
  ...context,
  settings: { ...context.settings, heal: context.settings.heal || true },
});

export const refitHeal: Method = {
  ...refit,
  name: 'refit-heal',
  summary: 'refit, then refit o_proj and down_proj of every later layer towards the original model',
  unhealed: refit,
  repair: (context, windows) => refit.repair(healing(context), windows),
};
