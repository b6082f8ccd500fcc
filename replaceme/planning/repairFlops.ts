import { healingCost } from '../fits/fitCost.js';
import type { RepairSettings } from '../fits/repair.js';
import type { Method } from '../methods/method.js';
import { lastRemoved, type Window } from '../run/window.js';
import type { Placement } from './memoryParts.js';
import type { PlannedMemory } from './memoryPlan.js';
import { fitRun, type MemorySizes } from './memorySteps.js';

/** A run, and where its weights and hidden states are. */
export interface PlacedRun extends MemorySizes {
  readonly placement: Placement;
  readonly memory: PlannedMemory;
}

/** Tokens whose hidden states after every layer the selection keeps. */
export const knownTokens = ({ memory, request: { arch } }: PlacedRun): number =>
  memory.hiddenStates / (4 * arch.hidden * arch.layers);

/** FLOPs of a repair: of everything up to the last window's fit, and of healing. */
export interface RepairFlops {
  readonly fit: number;
  readonly heal: number;
}

/** A repair that a run makes: of its windows by its method and settings, or of a candidate's. */
export interface PlannedRepair {
  readonly method: Method;
  readonly settings: RepairSettings;
  readonly windows: readonly Window[];
  readonly tokens: number;
  /** Tokens among them whose hidden states after every layer an earlier pass has kept. */
  readonly known: number;
  readonly keepsInner: boolean;
}

/** What a repair computes, as `repairInOrder` goes: the original model walks to the last window, the pruned one between them. */
export function repairFlops(sizes: MemorySizes, repair: PlannedRepair): RepairFlops {
  const { method, settings, windows, tokens, known, keepsInner } = repair;
  const { layers } = sizes.request.arch;
  const run = { ...fitRun(sizes, tokens), settings, keepsInner };
  const { all, features, mlpOutput } = run.layer;
  if (!method.fitCost && !settings.heal) return { fit: 0, heal: 0 };
  const unknown = Math.max(0, tokens - known);
  let fit = unknown * (lastRemoved(windows.at(-1)!) + 1) * all;
  let healed = 0;
  for (const [w, window] of windows.entries()) {
    const cost = method.fitCost?.({ ...run, windows: [window] });
    fit += cost?.flops ?? 0;
    const next = windows[w + 1];
    // A refit has gone through the layer with its new weights already.
    if ((next || settings.heal) && !cost?.refits) fit += tokens * all;
    const between = (next?.layer ?? layers) - lastRemoved(window) - 1;
    if (settings.heal) healed += between;
    else if (next) fit += tokens * between * all;
  }
  if (!settings.heal) return { fit, heal: 0 };
  // The original model goes on beside it; of what is known only the attention is computed.
  const beside = tokens * all - Math.min(known, tokens) * (features + mlpOutput);
  // Up to the last window the walk above has counted it.
  const walked = healed - (layers - lastRemoved(windows.at(-1)!) - 1);
  return { fit, heal: healed * (beside + healingCost(run).flops) - walked * unknown * all };
}
