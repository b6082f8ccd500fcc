import type { Model } from '../../model/index.js';
import { HiddenStates } from '../activations/hiddenStates.js';
import type { OpenInputs, PruneInputs } from '../inputs/pruneInputs.js';
import { loadPlanned } from '../planning/loadPlanned.js';
import { HEADROOM } from '../planning/memoryParts.js';
import type { SelectionContext } from '../selections/index.js';
import { batchesRecipe } from '../statistics/statisticsRecipe.js';
import type { PruneRun } from './pruneRun.js';
import type { PruneRecipe } from './readInputs.js';

/** Holds the device to the plan's memory until disposed: pooled buffers may not add to it. */
export function holdToPlan({ device, plan: { placement, memory } }: PruneRun): Disposable {
  // Where memory is short, there is no headroom either.
  return device.memory.budget(placement.weights === 'device' ? HEADROOM * memory.total : memory.total);
}

/** The unpruned model, its weights placed as planned. @throws RmError as Model.load. */
export const loadModel = (run: PruneRun): Promise<Model> =>
  run.during('load', () =>
    loadPlanned(run.device, run.from, run.options, run.plan.placement, { images: true }),
  );

/** Brings the inputs to the model: tokens in batches, text that the model writes itself, images. */
export async function openInputs(run: PruneRun, inputs: PruneInputs, model: Model): Promise<OpenInputs> {
  const opened = await run.during('calibrate', () => inputs.open(model));
  run.agree(batchesRecipe(opened.batches));
  return opened;
}

/** Room for hidden states that pass from the selection to the fit; the journal keeps them. */
export async function openStates(run: PruneRun): Promise<HiddenStates> {
  const states = new HiddenStates(run.device, run.request.arch, run.plan.memory.hiddenStates);
  await run.journal.track('states', states);
  return states;
}

/** What the selection and the method of a run work with. */
export function repairContext(
  run: PruneRun,
  recipe: PruneRecipe,
  { statistics }: PruneInputs,
  { model, batches }: OpenInputs,
  states: HiddenStates,
): Omit<SelectionContext, 'count' | 'windowCount' | 'apart' | 'method'> {
  const { placement, memory } = run.plan;
  return {
    model,
    batches,
    settings: run.request.settings,
    placement: placement.states,
    spillFile: run.spillFile,
    // An offloaded model leaves them no room.
    ...(placement.weights === 'device' && { states }),
    spareBytes: memory.selectionSpare,
    batchTokens: recipe.batchTokens,
    ...(statistics && { statistics }),
    ...run.hooks,
  };
}
