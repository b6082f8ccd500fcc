import { Scope } from '../../engine/index.js';
import type { Model } from '../../model/index.js';
import { batchedTokens } from '../calibration/calibrationBatch.js';
import { accumulateWindows } from '../fits/accumulateWindows.js';
import { refitCost } from '../fits/fitCost.js';
import { linearRefusal } from '../fits/linearRefusal.js';
import {
  accumulateRefit,
  type CachedRefit,
  type CachedSums,
  type RidgeSummary,
  refitFromCache,
  refitLayer,
  tokenWeighting,
} from '../fits/refitLayer.js';
import type { AccumulateContext, RepairContext, RepairDetails, RepairSettings } from '../fits/repair.js';
import { type FitPass, type LayerFit, repairInOrder } from '../fits/repairInOrder.js';
import type { RidgeStatistics } from '../fits/ridgeStatistics.js';
import { isEarly, lastRemoved, type Window } from '../run/window.js';
import { type Method, settingsOf } from './method.js';
import type { SumsKey } from '../statistics/statisticsStore.js';

/** In an early layer a step of o_proj gains little on one text and loses much on another (docs/lab-notes.md). */
const defaultStep = (window: Window, layers: number): number => (isEarly([window], layers) ? 0 : 0.5);

/** The settings, with the step that suits the place of the window. */
const optionsOf = ({ arch }: Model, window: Window, settings: RepairSettings) => ({
  ...settings,
  attentionStep: settings.attentionStep ?? defaultStep(window, arch.layers),
});

/** MLP features follow from o_proj as it is by then. */
function keyOf(
  model: Model,
  window: Window,
  settings: RepairSettings,
  name: 'o' | 'down',
  attention: RidgeSummary | undefined,
): SumsKey {
  const options = optionsOf(model, window, settings);
  const moved = attention ? `, o_proj ${options.attentionStep} at ridge ${attention.ridge}` : '';
  return {
    kind: `refit ${name}_proj`,
    layer: window.layer,
    target: lastRemoved(window),
    weighting: `${tokenWeighting(options)}${moved}`,
  };
}

async function fit(
  { inputs, targets, unpruned }: FitPass,
  window: Window,
  { settings, statistics: store }: RepairContext,
): Promise<LayerFit> {
  const { tokenResidual, sinkResidual, ...fitted } = await refitLayer(
    inputs,
    { output: (index, scope) => targets.state(index, scope) },
    {
      ...optionsOf(inputs.model, window, settings),
      ...(unpruned && {
        onStatistics: async (name, { sums }, attention) =>
          store?.put(keyOf(inputs.model, window, settings, name, attention), sums),
      }),
    },
  );
  inputs.arriveAt(lastRemoved(window) + 1);
  return layerFit(fitted, inputs.tokens, { tokenResidual, sinkResidual });
}

/** From the sums of earlier runs or rounds. */
const recalled =
  ({ model, settings, statistics: store }: RepairContext, window: Window): CachedSums =>
  async (name, statistics, attention) => {
    using scope = new Scope(model.device);
    const sums = await store?.get(keyOf(model, window, settings, name, attention), scope);
    if (sums) statistics.recall(sums);
    return sums !== undefined;
  };

async function recall(context: RepairContext, window: Window): Promise<LayerFit | undefined> {
  const { model, batches, settings, statistics } = context;
  if (!statistics) return undefined;
  const options = optionsOf(model, window, settings);
  const found = await refitFromCache(model, window.layer, options, recalled(context, window));
  return found && layerFit(found, batchedTokens(batches));
}

const gather = (context: AccumulateContext, windows: readonly Window[]): Promise<boolean> =>
  accumulateWindows(
    context,
    windows,
    async window => {
      const known = await recall(context, window);
      for (const tensor of Object.values(known?.weights ?? {})) tensor.dispose();
      return known !== undefined;
    },
    ({ inputs, targets }, window) => {
      const { model, settings, into } = context;
      const options = {
        ...optionsOf(model, window, settings),
        onStatistics: (name: 'o' | 'down', { sums }: RidgeStatistics, attention?: RidgeSummary) =>
          into.put(keyOf(model, window, settings, name, attention), sums),
      };
      const output = (index: number, scope: Scope) => targets.state(index, scope);
      return accumulateRefit(inputs, { output }, options, recalled(context, window));
    },
  );

const layerFit = (
  { weights, attention, mlp, paths }: CachedRefit,
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

/** The whole down_proj (and half a step of o_proj) of the layer that stays, instead of a map on its output. */
export const refit: Method = {
  name: 'refit',
  summary: 'refit the projections of the layer that stays by ridge regression, ridge by held-out tokens',
  source: 'our own, after ReplaceMe, arXiv:2505.02819',
  selection: 'measured',
  reads: settingsOf('refit'),
  needsCalibration: true,
  refusal: linearRefusal,
  fitCost: run => {
    const { arch, settings, windows } = run;
    const step = settings.attentionStep ?? (windows && isEarly(windows, arch.layers) ? 0 : undefined);
    return refitCost(run, step === 0 ? 0 : 2);
  },
  accumulate: gather,
  repair: (context, windows) =>
    repairInOrder(
      context,
      windows,
      (pass, window) => fit(pass, window, context),
      window => recall(context, window),
    ),
};

export const refitHeal: Method = {
  ...refit,
  name: 'refit-heal',
  summary: 'refit, then refit o_proj and down_proj of every later layer towards the original model',
  unhealed: refit,
  repair: (context, windows) =>
    refit.repair({ ...context, settings: { ...context.settings, heal: true } }, windows),
};
