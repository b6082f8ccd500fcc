import { type DeviceFacts, noJournal, RmError } from '../../engine/index.js';
import { evaluate, ReferenceStates } from '../../model/index.js';
import { HiddenStates, LentStates } from '../activations/hiddenStates.js';
import { PrunedModel } from '../activations/prunedModel.js';
import { batchedTokens, type CalibrationBatch, realSequences } from '../calibration/calibrationBatch.js';
import type { RepairContext } from '../fits/repair.js';
import { isEarly, type Window } from '../run/window.js';
import type { WindowChoice, WindowScores } from '../run/windowChoice.js';
import { type WindowMap, windowMap } from '../windowMap/windowMap.js';
import { cosine, rankingBatches } from './cosine.js';
import { judgingOptions } from './judgingOptions.js';
import { keepsLayerPattern } from './layerPattern.js';
import type { MeasureSettings, Selection, SelectionContext } from './selection.js';
import { shortList } from './shortList.js';

/**
 * Defaults that together cost about as much as the fit itself. On a software adapter, whose fit uses 8,192 tokens, in units
 * of one forward pass over 1,024 tokens: 4 for the map (which the fit saves later) and 1 for its solves, 1 for the
 * reference, and for each of six candidates one half for the fit and one for the later layers and the output head. Each
 * of two finalists costs half of the final healing. Healing is not judged on fewer tokens, because early windows gain
 * more from it with more tokens.
 */
const defaultSettings = ({ info }: DeviceFacts, tokens: number): MeasureSettings => {
  const { heldOutTokens, ...rest } =
    info.kind === 'software'
      ? { fitTokens: 4096, heldOutTokens: 1024, candidates: 6, finalists: 2 }
      : { fitTokens: 32_768, heldOutTokens: 8192, candidates: 16, finalists: 3 };
  // With more text to fit on, there is more to judge by.
  return {
    ...rest,
    heldOutTokens: Math.min(MOST_HELD_OUT, Math.max(heldOutTokens, Math.floor(tokens / 8))),
  };
};

/** Most tokens to judge by, since every candidate goes over all of them. */
const MOST_HELD_OUT = 32_768;

/** Default for the most windows of a set. */
const MOST_WINDOWS = 4;

interface Split {
  readonly fit: readonly CalibrationBatch[];
  /** Token sequences, without padding. */
  readonly heldOut: readonly (readonly number[])[];
}

/**
 * Divides the batches: some of both halves to fit on, and other sequences of half 1 to judge by. Undefined where there are
 * too few sequences for both.
 */
export function splitHalves(
  batches: readonly CalibrationBatch[],
  { fitTokens, heldOutTokens }: Pick<MeasureSettings, 'fitTokens' | 'heldOutTokens'>,
): Split | undefined {
  const half = (which: 0 | 1) => batches.filter(batch => batch.half === which);
  const first = rankingBatches(half(0), fitTokens / 2);
  let second = half(1);
  // A single batch is divided by sequences.
  if (second.length === 1) second = singleSequences(second[0]!);
  if (first.length === 0 || second.length < 2) return undefined;
  const most = Math.floor(batchedTokens(second) / 2);
  const judged = rankingBatches(second.slice(1), Math.min(heldOutTokens, most));
  const fitted = rankingBatches(
    second.filter(batch => !judged.includes(batch)),
    fitTokens / 2,
  );
  const heldOut = judged.flatMap(realSequences).filter(({ length }) => length > 1);
  return heldOut.length > 0 ? { fit: [...first, ...fitted], heldOut } : undefined;
}

const singleSequences = (batch: CalibrationBatch): CalibrationBatch[] =>
  batch.sequences.map((ids, s) => ({
    ...batch,
    sequences: [ids],
    ...(batch.lengths && { lengths: [batch.lengths[s]!] }),
  }));

async function select(context: SelectionContext): Promise<WindowChoice> {
  const { model, count, method, spareBytes, onProgress, signal, journal = noJournal } = context;
  const { device, arch } = model;
  const hooks = { ...(onProgress && { onProgress }), ...(signal && { signal }), journal };
  const tokens = batchedTokens(context.batches);
  const settings = { ...defaultSettings(device, tokens), ...context.measuring };
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

  using reference = await ReferenceStates.of(model, split.heldOut, {
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
  const unhealed = method.unhealed ?? method;
  const heals = context.settings.heal || method.unhealed !== undefined;
  // Holds out the same sequences.
  const more = splitHalves(context.batches, {
    ...settings,
    fitTokens: Math.max(settings.fitTokens, tokens / 2),
  })!;
  const score = async (windows: readonly Window[], healed: boolean): Promise<WindowScores> => {
    using _section = device.section('candidates');
    const repair = healed
      ? await method.repair({ ...repairing, batches: more.fit }, windows)
      : await unhealed.repair({ ...repairing, settings: { ...context.settings, heal: false } }, windows);
    using pruned = new PrunedModel(model, windows, repair.changes);
    const { kl, nll } = await evaluate(pruned.model, split.heldOut, {
      against: reference,
      ...(signal && { signal }),
      journal,
    });
    return { windows, ...proxies(map, windows), kl: kl!, nll, healed };
  };
  const scores: WindowScores[] = [];
  const tell = (phase: string, done: number, total: number) =>
    onProgress?.({ phase, done, total, unit: phase });
  tell('candidates', 0, candidates.length);
  for (const [c, windows] of candidates.entries()) {
    scores.push(await journal.step('candidate', () => score(windows, false)));
    tell('candidates', c + 1, candidates.length);
  }
  scores.sort(byKl);
  if (heals) {
    const finalists = chooseFinalists(scores, arch.layers, settings.finalists);
    tell('finalists', 0, finalists.length);
    for (const [f, finalist] of finalists.entries()) {
      scores[scores.indexOf(finalist)] = await journal.step('finalist', () => score(finalist.windows, true));
      tell('finalists', f + 1, finalists.length);
    }
    scores.sort((a, b) => Number(b.healed) - Number(a.healed) || byKl(a, b));
  }
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
  const most = windowCount > 1 ? windowCount : MOST_WINDOWS;
  const suits = (windows: readonly Window[]) => keepsLayerPattern(arch, windows);
  const sets = shortList(map, count, length, Math.min(most, count), keepsPattern ? suits : undefined);
  if (sets.length > 0) return sets;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `no ${count} layers can go so that those of ${arch.family} that stay keep their kinds by place, as a GGUF file has them`,
    'Write a model folder instead (an output path without .gguf), or remove another number of layers.',
  );
}

const byKl = (a: WindowScores, b: WindowScores): number => a.kl - b.kl;

/** The best candidates and the best early one, which healing helps more. */
function chooseFinalists(scores: readonly WindowScores[], layers: number, count: number): WindowScores[] {
  const early = scores.find(({ windows }) => isEarly(windows, layers));
  const order = [...scores.slice(0, 1), ...(early ? [early] : []), ...scores];
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
  // As defaultSettings counts them, without the part that the fit saves later.
  tokens: ({ device, tokens }) => {
    const { fitTokens, heldOutTokens, candidates } = defaultSettings(device, tokens);
    return 1.25 * fitTokens + heldOutTokens + candidates * (fitTokens / 8 + heldOutTokens);
  },
  memory: ({ device, tokens }) => {
    const { fitTokens, heldOutTokens } = defaultSettings(device, tokens);
    // At most half of one half is held out.
    const judged = Math.min(heldOutTokens, Math.floor(tokens / 4));
    const most = tokens - judged;
    const repaired = Math.min(most, fitTokens);
    return { kept: repaired, judged, repaired, healed: Math.min(most, Math.max(fitTokens, tokens / 2)) };
  },
};
