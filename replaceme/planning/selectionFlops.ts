import { depthStep } from '../../model/index.js';
import type { RepairSettings } from '../fits/repair.js';
import { healsAfter, type Method } from '../methods/method.js';
import { layerFlops } from '../run/computeRate.js';
import { removedLayers, type Window } from '../run/window.js';
import { repairsApart, windowsOfAll } from '../selections/candidateRounds.js';
import { MAP_RIDGES } from '../windowMap/layerSums.js';
import { tiles } from '../windowMap/layerTile.js';
import { projectionRows } from '../windowMap/projection.js';
import { PROJECTIONS } from '../windowMap/windowMap.js';
import type { MemorySizes } from './memorySteps.js';
import { knownTokens, type PlacedRun, repairFlops } from './repairFlops.js';

/** FLOPs of a selection that judges candidates, by part. */
export interface JudgingFlops {
  readonly map: number;
  readonly reference: number;
  /** Repairs and evaluations of the first round, and of the last one. */
  readonly candidates: number;
  readonly finalists: number;
}

/** What choosing the windows computes. */
export function selectionFlops(run: PlacedRun): number {
  const judging = judgingFlops(run);
  if (judging) return Object.values(judging).reduce((sum, flops) => sum + flops, 0);
  const { arch } = run.request;
  return run.rankedTokens * arch.layers * layerFlops(arch, run.sequenceLength).all;
}

/** The same for a selection that judges candidates; undefined for others. */
export function judgingFlops(run: PlacedRun): JudgingFlops | undefined {
  const { rounds, repaired = 0, judged = 0, healed = 0 } = run.selecting;
  if (!rounds) return undefined;
  const { arch, method, settings } = run.request;
  const known = knownTokens(run);
  const { keepsInner } = run.placement.states;
  const repair = (
    of: { method: Method; settings: RepairSettings },
    windows: readonly Window[],
    tokens: number,
  ) => {
    const { fit, heal } = repairFlops(run, { ...of, windows, tokens, known, keepsInner });
    return fit + heal;
  };
  const unhealed = { method: method.unhealed ?? method, settings: { ...settings, heal: false as const } };
  const first = (windows: readonly Window[]) => repair(unhealed, windows, rounds.repaired);
  const heals = healsAfter(run.request);
  const last = heals ? { method, settings: { ...settings, heal: settings.heal || true } } : unhealed;
  const judge = (windows: readonly Window[], tokens: number) =>
    tokens * judgedFlops(run, windows, depthStepOf(run, judged, run.memory.selectionSpare));
  const sum = <T>(items: readonly T[], of: (item: T) => number) =>
    items.reduce((total, item) => total + of(item), 0);
  const { sets } = rounds;
  const repairs = repairsApart(method)
    ? sum(windowsOfAll(sets), window => first([window]))
    : sum(sets, first);
  const inFull = sum(
    sets,
    windows => repair(last, windows, heals ? healed : repaired) + judge(windows, judged),
  );
  const onlyFinalists = sets.length <= rounds.finalists;
  return {
    map: mapFlops(run, repaired),
    reference: judged * arch.layers * layerFlops(arch, run.sequenceLength).all,
    candidates: onlyFinalists ? 0 : repairs + sum(sets, windows => judge(windows, rounds.judged)),
    finalists: onlyFinalists ? inFull : (rounds.finalists / sets.length) * inFull,
  };
}

/** After how many layers each the original model's states are kept, from which others start that share its first layers. */
export const depthStepOf = ({ request: { arch } }: MemorySizes, tokens: number, room: number): number =>
  depthStep(arch.layers, 4 * arch.hidden * tokens, room);

/** Of one token: the layers of a model without these windows from the first kept states on, and the logits of both models. */
export function judgedFlops(run: MemorySizes, windows: readonly Window[], step: number): number {
  const { arch } = run.request;
  const shared = Math.floor(windows[0]!.layer / step) * step;
  const layers = arch.layers - removedLayers(windows).length - shared;
  return layers * layerFlops(arch, run.sequenceLength).all + 2 * 2 * arch.hidden * arch.vocab;
}

/** The window map: all layers over the tokens for every group of layers that has room for its sums, and solving for the maps. */
function mapFlops(run: PlacedRun, tokens: number): number {
  const { arch, count } = run.request;
  const { hidden, layers } = arch;
  const rows = projectionRows(hidden, PROJECTIONS);
  const passes = tiles(layers - 1, count, rows, hidden, run.memory.selectionSpare).length;
  const windows = Array.from({ length: layers - 1 }, (_, layer) => Math.min(count, layers - 1 - layer));
  const walk = layers * (layerFlops(arch, run.sequenceLength).all + 2 * rows * hidden);
  // G and the products with it, and distances.
  const sums = (targets: number) => 2 * hidden * (hidden + (targets + 1) * rows) + 9 * targets * hidden;
  const solves = (targets: number) => MAP_RIDGES.length * hidden ** 2 * (hidden / 3 + 4 * targets * rows);
  return windows.reduce(
    (total, targets) => total + tokens * sums(targets) + solves(targets),
    passes * tokens * walk,
  );
}
