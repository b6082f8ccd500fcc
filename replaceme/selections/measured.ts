import { type DeviceFacts, noJournal, RmError } from '../../engine/index.js';
import { HiddenStates, LentStates } from '../activations/hiddenStates.js';
import { batchedTokens } from '../calibration/calibrationBatch.js';
import type { RepairContext } from '../fits/repair.js';
import { healsAfter } from '../methods/method.js';
import { isEarly, type Window } from '../run/window.js';
import type { WindowChoice, WindowScores } from '../run/windowChoice.js';
import { type WindowMap, windowMap } from '../windowMap/windowMap.js';
import { firstRound, lastRound } from './candidateRounds.js';
import { cosine } from './cosine.js';
import { Judges, type Scores } from './judges.js';
import { judgingOptions } from './judgingOptions.js';
import { keepsLayerPattern } from './layerPattern.js';
import type { MeasureSettings, Selection, SelectionContext } from './selection.js';
import { shortList } from './shortList.js';
import { firstOfHalves, splitHalves } from './splitHalves.js';
import { typicalSets } from './typicalSets.js';

/**
 * Defaults that together cost about as much as the fit itself (planning/selectionFlops.ts counts them). Healing is not judged
 * on fewer tokens, because early windows gain more from it with more tokens.
 */
const defaultSettings = ({ info }: DeviceFacts, tokens: number, heals: boolean): MeasureSettings => {
  const { heldOutTokens, ...rest } =
    info.kind === 'software'
      ? { fitTokens: 4096, heldOutTokens: 1024, candidates: 6, finalists: 2 }
      : { fitTokens: 32_768, heldOutTokens: 8192, candidates: 16, finalists: heals ? 3 : 2 };
  // With more text to fit on, there is more to judge by.
  return {
    ...rest,
    heldOutTokens: Math.min(MOST_HELD_OUT, Math.max(heldOutTokens, Math.floor(tokens / 8))),
  };
};

/** Most tokens to judge by, since every finalist goes over all of them. */
const MOST_HELD_OUT = 32_768;

/** Shares of the tokens that candidates are repaired on and judged by in the first round. */
const FIRST_FITTED = 1 / 2;
const FIRST_JUDGED = 1 / 4;

/** Default for the most windows of a set. */
const MOST_WINDOWS = 4;

const mostWindows = (windowCount: number, count: number): number =>
  Math.min(windowCount > 1 ? windowCount : MOST_WINDOWS, count);

async function select(context: SelectionContext): Promise<WindowChoice> {
  const { model, count, method, spareBytes, onProgress, signal, journal = noJournal } = context;
  const { device, arch } = model;
  const hooks = { ...(onProgress && { onProgress }), ...(signal && { signal }), journal };
  const tokens = batchedTokens(context.batches);
  const heals = healsAfter(context);
  const settings = { ...defaultSettings(device, tokens, heals), ...context.measuring };
  const split = splitHalves(context.batches, settings);
  if (!split) {
    // `windowCount` is the most here: one window where the layers do not divide.
    const divides = count % context.windowCount === 0;
    const nearest = await cosine.select(divides ? context : { ...context, windowCount: 1 });
    return { ...nearest, by: `${nearest.by}, for lack of held-out texts` };
  }
  using own = context.states ? undefined : new HiddenStates(device, arch);
  const states = context.states ?? own!;
  using _states = own && (await journal.track('states', own));
  const map = await journal.step('window map', () =>
    windowMap(model, split.fit, {
      ...context,
      ...{ states, longest: count },
      ...(spareBytes !== undefined && { room: spareBytes }),
    }),
  );
  const candidates = proposed(context, map, settings.candidates);
  using judges = await Judges.of(model, split.heldOut, FIRST_JUDGED, {
    ...judgingOptions(context),
    ...hooks,
  });
  using lent = new LentStates(device, arch, states);
  const repairing: RepairContext = {
    model,
    batches: split.fit,
    settings: context.settings,
    states: lent,
    ...(context.placement && { placement: context.placement }),
    ...hooks,
  };
  const withScores = (sets: readonly (readonly Window[])[], scores: readonly Scores[], healed: boolean) =>
    sets
      .map((windows, at): WindowScores => ({ windows, ...proxies(map, windows), ...scores[at]!, healed }))
      .sort((a, b) => a.kl - b.kl);

  let finalists: readonly (readonly Window[])[] = candidates;
  let others: readonly WindowScores[] = [];
  if (candidates.length > settings.finalists) {
    const first = await firstRound(candidates, {
      method: method.unhealed ?? method,
      context: {
        ...repairing,
        batches: firstOfHalves(split.fit, FIRST_FITTED),
        settings: { ...context.settings, heal: false },
      },
      judges,
    });
    const ranked = withScores(candidates, first, false);
    const best = chooseFinalists(ranked, arch.layers, settings.finalists, heals);
    finalists = best.map(({ windows }) => windows);
    others = ranked.filter(scores => !best.includes(scores));
  }
  // Healing gains from more tokens; the same sequences are held out.
  const fitTokens = heals ? Math.max(settings.fitTokens, tokens / 2) : settings.fitTokens;
  const { fit } = splitHalves(context.batches, { ...settings, fitTokens })!;
  const last = await lastRound(finalists, { method, context: { ...repairing, batches: fit }, judges });
  const scores = [...withScores(finalists, last, heals), ...others];
  const { windows } = scores[0]!;
  return { windows, by: 'KL to the original on held-out calibration tokens', candidates: scores, map };
}

/**
 * At most `length` sets of windows worth measuring.
 *
 * @throws RmError UNSUPPORTED_FAMILY where the output can say what is left of none.
 */
function proposed(
  { model: { arch }, count, windowCount, keepsPattern }: SelectionContext,
  map: WindowMap,
  length: number,
): Window[][] {
  const suits = (windows: readonly Window[]) => keepsLayerPattern(arch, windows);
  const sets = shortList(
    map,
    count,
    length,
    mostWindows(windowCount, count),
    keepsPattern ? suits : undefined,
  );
  if (sets.length > 0) return sets;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `no ${count} layers can go so that those of ${arch.family} that stay keep their kinds by place, as a GGUF file has them`,
    'Write a model folder instead (an output path without .gguf), or remove another number of layers.',
  );
}

/** The best candidates; where healing follows, the best early one among them, which it helps more. */
function chooseFinalists(
  ranked: readonly WindowScores[],
  layers: number,
  count: number,
  heals: boolean,
): WindowScores[] {
  const early = heals ? ranked.find(({ windows }) => isEarly(windows, layers)) : undefined;
  const order = [...ranked.slice(0, 1), ...(early ? [early] : []), ...ranked];
  return [...new Set(order)].slice(0, count);
}

/** A set's measures in the map: sums over its windows. */
function proxies(map: WindowMap, windows: readonly Window[]): { cosine: number; residual: number } {
  const measures = windows.map(
    ({ layer, count }) => map.windows.find(window => window.layer === layer && window.count === count)!,
  );
  return {
    cosine: measures.reduce((sum, { cosine: distance }) => sum + distance, 0),
    residual: measures.reduce((sum, { residual }) => sum + residual, 0),
  };
}

export const measured: Selection = {
  name: 'measured',
  summary: 'smallest KL to the original of candidates that are repaired and judged on held-out tokens',
  source: 'our own; kin: ReplaceMe A.10, SLEB, arXiv:2402.09025',
  judgesText: true,
  dividesInWindows: 'any',
  dependsOnMethod: true,
  select,
  tokens: ({ device, tokens, heals }) => Math.min(tokens, defaultSettings(device, tokens, heals).fitTokens),
  memory: ({ device, tokens, layers, count, windowCount, heals }) => {
    const { fitTokens, heldOutTokens, candidates, finalists } = defaultSettings(device, tokens, heals);
    // At most half of one half is held out.
    const judged = Math.min(heldOutTokens, Math.floor(tokens / 4));
    const most = tokens - judged;
    const repaired = Math.min(most, fitTokens);
    return {
      ...{ kept: repaired, judged, repaired, healed: Math.min(most, Math.max(fitTokens, tokens / 2)) },
      rounds: {
        sets: typicalSets(layers, count, candidates, mostWindows(windowCount, count)),
        ...{ repaired: FIRST_FITTED * repaired, judged: FIRST_JUDGED * judged, finalists },
      },
    };
  },
};
