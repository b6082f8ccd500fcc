import type { PrunedModel } from '../activations/prunedModel.js';
import type { Repair, RepairContext } from '../fits/repair.js';
import type { HealingRecord } from '../healing/gradientHealing.js';
import { healingSettings } from '../healing/healingSettings.js';
import { healPruned } from '../healing/healPruned.js';
import type { OpenInputs } from '../inputs/pruneInputs.js';
import { checkRepair } from '../request/ownStrategies.js';
import type { Window } from '../run/window.js';
import type { HealingChoice } from './chooseHealing.js';
import type { PruneRun } from './pruneRun.js';

/** New weights for the layers that stay, from the run's method. @throws RmError as `Method.repair`. */
export const repairWindows = (
  run: PruneRun,
  context: RepairContext,
  windows: readonly Window[],
  healing?: HealingChoice,
): Promise<Repair> =>
  run.step('fit', async () => {
    const settings = { ...context.settings, ...(healing && { heal: healing.heal }) };
    const { method } = run.request;
    const result = await method.repair({ ...context, settings, phases: run.clock }, windows);
    checkRepair(result, context.model, windows, method);
    const { details, warnings = [], ...repair } = result;
    await run.device.recorder.finish();
    return {
      ...repair,
      details: { ...details, ...healing?.details },
      warnings: [...warnings, ...(healing?.warnings ?? [])],
    };
  });

/**
 * Trains `pruned` towards the original on the calibration texts, where the request says so.
 *
 * @throws RmError as healPruned.
 */
export async function healByTraining(
  run: PruneRun,
  { model: original, calibration, heldOut }: OpenInputs,
  pruned: PrunedModel,
  windows: readonly Window[],
): Promise<HealingRecord | undefined> {
  const { request, device, hooks } = run;
  const { gradient, arch } = request;
  if (!gradient) return undefined;
  const settings = healingSettings(gradient, device, arch);
  return await run.during('heal', () =>
    healPruned({ pruned, original, windows, calibration, heldOut, settings, ...hooks }),
  );
}
