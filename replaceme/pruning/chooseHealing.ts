import { noJournal } from '../../engine/index.js';
import { evaluate, ReferenceStates, SpillFile } from '../../model/index.js';
import { LentStates } from '../activations/hiddenStates.js';
import { PrunedModel } from '../activations/prunedModel.js';
import { batchedTokens } from '../calibration/calibrationBatch.js';
import type { Repair, RepairContext } from '../fits/repair.js';
import type { Window } from '../run/window.js';
import { healingSample } from '../selections/healingSample.js';
import { splitHalves } from '../selections/splitHalves.js';
import type { PruneRun } from './pruneRun.js';

/** What the layers after the cut get, and what a report says of it. */
export interface HealingChoice {
  readonly heal: true | 'o-proj';
  readonly details: Repair['details'];
  readonly warnings: readonly string[];
}

/**
 * Where the request leaves the choice open: heals o_proj and down_proj, then o_proj alone, each on half of the tokens, and
 * takes what is nearer to the original on others. Losses of single layers would mislead (docs/lab-notes.md).
 *
 * @returns undefined where there is nothing to choose.
 * @throws RmError as `Method.repair` and `evaluate`.
 */
export async function chooseHealing(
  run: PruneRun,
  context: RepairContext & { readonly batchTokens?: number },
  windows: readonly Window[],
): Promise<HealingChoice | undefined> {
  if (context.settings.heal !== 'auto') return undefined;
  const tokens = batchedTokens(context.batches);
  const split = splitHalves(context.batches, healingSample(context.model.device, tokens));
  if (!split) {
    const warning =
      'too few calibration texts to hold any back: o_proj and down_proj are healed, without a choice by KL';
    return { heal: true, details: { healed: 'o_proj and down_proj' }, warnings: [warning] };
  }
  return await run.step('select', async () => {
    const { model, batchTokens, journal = noJournal } = context;
    const { device } = model;
    using reference = await ReferenceStates.of(model, split.heldOut, {
      ...run.hooks,
      ...(batchTokens !== undefined && { batchTokens }),
    });
    const klAfter = async (heal: true | 'o-proj'): Promise<number> => {
      await using spillFile = new SpillFile(run.to);
      const { states, statistics, onNotice, ...rest } = context;
      using lent = states && new LentStates(device, model.arch, states);
      const repair = await run.request.method.repair(
        {
          ...{ ...rest, batches: split.fit, settings: { ...context.settings, heal }, spillFile },
          ...(lent && { states: lent }),
        },
        windows,
      );
      using pruned = new PrunedModel(model, windows, repair.changes);
      const { kl } = await evaluate(pruned.model, split.heldOut, { against: reference, ...run.hooks });
      return kl!;
    };
    const both = await journal.step('both', () => klAfter(true));
    await device.reclaim();
    const oProj = await journal.step('o_proj', () => klAfter('o-proj'));
    await device.reclaim();
    const heal = oProj <= both ? 'o-proj' : true;
    const healed = heal === true ? 'o_proj and down_proj' : 'o_proj';
    return { heal, details: { healed, heldOutKlOfBoth: both, heldOutKlOfOProj: oProj }, warnings: [] };
  });
}
