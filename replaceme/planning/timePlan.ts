import type { DeviceFacts } from '../../engine/index.js';
import { healingFlops } from '../healing/healingCost.js';
import { fitsInClosedForm } from '../request/needs.js';
import type { PruneRequest } from '../request/request.js';
import { layerFlopsPerToken } from '../run/computeRate.js';
import type { Paces } from '../run/paces.js';
import type { PhaseName } from '../run/phaseClock.js';
import { chooseExtent, type ReportExtent, type ReportTimes } from '../run/reportExtent.js';
import { lastRemoved, type Window } from '../run/window.js';
import type { HealingSample } from '../selections/healingSample.js';
import { evaluationFlops } from './evaluationCost.js';
import { knownTokens, type PlacedRun, type RepairFlops, repairFlops } from './repairFlops.js';
import { judgedFlops, selectionFlops } from './selectionFlops.js';

/** The expected cost of a phase of a run. */
export interface PlannedPhase {
  readonly name: PhaseName;
  /** Bytes of weights read from disk and uploaded; for `write`, read and written. */
  readonly bytes: number;
  readonly flops: number;
  /** At the plan's rates. Offloaded layers arrive while the previous one computes. */
  readonly seconds: number;
}

/** What this device does per second. */
export interface PlannedRates {
  /** Of a layer of the model over many tokens, and whether it was measured for this plan. */
  readonly layerGflops: number;
  readonly layerMeasured: boolean;
  /** Of a layer over the tokens that samples gain at a time; absent where the report can have none. */
  readonly singleGflops?: number;
  /** Host to device, in GB, and whether `rm-engine bench peak` measured it on this device. */
  readonly uploadGigabytes: number;
  readonly uploadMeasured: boolean;
  /** From and to disk, in GB; assumed, because a plan reads no weights. */
  readonly diskGigabytes: number;
}

/** A server's SSD; network drives and cold cloud volumes are slower. */
export const DISK_GIGABYTES = 1;
/** The upload rate where none was measured. */
export const assumedUpload = ({ info }: DeviceFacts): number => (info.kind === 'software' ? 2 : 8);

/** Numbers of layers that the search for a budget tries, about. */
export const TRIES = 4;

interface RepairCost extends RepairFlops {
  /** Layers that all tokens go through before the last fit; those that are fitted there; and those that are healed. */
  readonly depth: number;
  readonly cuts: number;
  readonly healed: number;
}

/** What all fits compute; the mean over the sets that may be chosen. */
function repairCost(run: PlacedRun, sets: readonly (readonly Window[])[]): RepairCost {
  const { method, settings, arch } = run.request;
  const { keepsInner } = run.placement.states;
  const of = { method, settings, tokens: run.tokens, known: knownTokens(run), keepsInner };
  const costs = sets.map(windows => ({
    ...repairFlops(run, { ...of, windows }),
    depth: lastRemoved(windows.at(-1)!) + 1,
    cuts: windows.length,
    healed: settings.heal ? arch.layers - lastRemoved(windows[0]!) - 1 : 0,
  }));
  const mean = (name: keyof RepairCost) => costs.reduce((sum, cost) => sum + cost[name], 0) / costs.length;
  return {
    ...{ fit: mean('fit'), heal: mean('heal') },
    ...{ depth: mean('depth'), cuts: mean('cuts'), healed: mean('healed') },
  };
}

/** FLOPs of two repairs on a sample, and of what judges them. */
function healingTrials(
  run: PlacedRun,
  { judged, healed }: HealingSample,
  windows: readonly Window[],
): number {
  const { arch, method, settings } = run.request;
  const { keepsInner } = run.placement.states;
  const repaired = (heal: true | 'o-proj') => {
    const repair = { method, settings: { ...settings, heal }, windows, tokens: healed };
    const { fit, heal: healing } = repairFlops(run, { ...repair, known: knownTokens(run), keepsInner });
    return fit + healing;
  };
  const judging = arch.layers * layerFlopsPerToken(arch, run.sequenceLength);
  // Without states between the layers.
  const scored = 2 * judgedFlops(run, windows, arch.layers);
  return repaired(true) + repaired('o-proj') + judged * (judging + scored);
}

/** The windows where they are known, else such as a selection may find; the likeliest first. */
function expectedSets(
  { request: { arch, windows }, selecting }: PlacedRun,
  count: number,
): readonly (readonly Window[])[] {
  const middle = { layer: Math.floor((arch.layers - 1 - count) / 2), count };
  return windows ? [windows] : (selecting.rounds?.sets ?? [[middle]]);
}

/** Layers that go. How many a budget allows is not known yet; its search begins with a quarter. */
export const expectedCount = ({ arch, budget, count }: PruneRequest): number =>
  budget ? Math.max(1, Math.round(arch.layers / 4)) : count;

/** The expected time of a run. */
export interface PlannedTime {
  /** In their order, without texts that are read or written by the model. */
  readonly phases: readonly PlannedPhase[];
  /** How much the report measures, by these times. */
  readonly report: ReportExtent;
  /** Seconds of the full evaluation and of a light one with all tokens; undefined where the time decides nothing. */
  readonly evaluation?: Omit<ReportTimes, 'rest'>;
}

/** Of all these phases. */
export const secondsOf = (phases: readonly PlannedPhase[]): number =>
  phases.reduce((sum, { seconds }) => sum + seconds, 0);

/** The phases of a run, and how much of a report they leave time for. @param paces of earlier runs like this one. */
export function plannedTime(run: PlacedRun, rates: PlannedRates, paces: Paces = {}): PlannedTime {
  const { request, layerBytes, outerBytes, weightBytes, evaluationTokens } = run;
  const { arch, windows, settings, budget } = request;
  const { layers } = arch;
  const count = expectedCount(request);
  const streamed = run.placement.weights !== 'device';
  const disk = rates.diskGigabytes * 1e9;
  const perByte = 1 / disk + 1 / (rates.uploadGigabytes * 1e9);
  const phase = (name: PhaseName, flops: number, bytes: number, overlaps = streamed): PlannedPhase => {
    const [computing, moving] = [flops / (rates.layerGflops * 1e9), bytes * perByte];
    const seconds = overlaps ? Math.max(computing, moving) : computing + moving;
    return { name, bytes, flops, seconds: seconds * (paces[name] ?? 1) };
  };
  const uploaded = (of: number) => (streamed ? of * layerBytes : 0);
  const phases = [phase('load', 0, streamed ? outerBytes : weightBytes, false)];
  const sets = expectedSets(run, count);
  const cost = repairCost(run, sets);
  const selecting = selectionFlops(run);
  const trying = selecting + cost.fit + cost.heal;
  const ranking = windows ? 0 : budget ? TRIES * trying : selecting;
  const trial = run.comparing && healingTrials(run, run.comparing, sets[0]!);
  if (!windows || trial) {
    const passes = (windows ? 0 : layers) + (trial ? 2 * (layers + cost.depth + cost.healed) : 0);
    phases.push(phase('select', ranking + (trial ?? 0), uploaded(passes)));
  }
  if (fitsInClosedForm(request)) {
    phases.push(phase('fit', cost.fit, uploaded(cost.depth + cost.cuts)));
  }
  const training = run.healing && healingFlops(run.healing, run.sequenceLength);
  if (settings.heal || training) {
    const trained = training ? training.training + training.heldOut : 0;
    phases.push(phase('heal', cost.heal + trained, uploaded(cost.healed)));
  }
  const kept = weightBytes - count * layerBytes;
  const end: PlannedPhase[] = [
    { name: 'write', bytes: kept, flops: 0, seconds: ((paces.write ?? 1) * 2 * kept) / disk },
    phase('verify', 0, kept, false),
  ];
  if (evaluationTokens === 0) return { phases: [...phases, ...end], report: chooseExtent('none', undefined) };
  const evaluate = (extent: 'full' | 'light'): PlannedPhase => {
    const { together, oneByOne } = evaluationFlops(run, sets[0]!, extent);
    // Once for the scores; in full once more, a layer at a time.
    const walks = extent === 'full' ? 2 : 1;
    const all = phase('evaluate', together, uploaded(walks * (3 * layers - 2 * count)));
    const writing = rates.singleGflops ? oneByOne / (rates.singleGflops * 1e9) : 0;
    const seconds = all.seconds + (paces.evaluate ?? 1) * writing;
    return { ...all, flops: together + oneByOne, seconds };
  };
  const [full, light] = [evaluate('full'), evaluate('light')];
  const evaluation = { full: full.seconds, light: light.seconds };
  const times = { ...evaluation, rest: secondsOf([...phases, ...end]) };
  const report = chooseExtent(run.report, arch.vision ? undefined : times, run.fixedTokens);
  const chosen = report.extent === 'full' ? full : scaled(light, report.tokenShare);
  return { phases: [...phases, chosen, ...end], report, ...(!arch.vision && { evaluation }) };
}

const scaled = (phase: PlannedPhase, share: number): PlannedPhase => ({
  ...phase,
  flops: share * phase.flops,
  seconds: share * phase.seconds,
});
