import { PrunedModel } from './activations/prunedModel.js';
import { chooseHealing } from './pruning/chooseHealing.js';
import { chooseWindows } from './pruning/chooseWindows.js';
import { holdToPlan, loadModel, openInputs, openStates, repairContext } from './pruning/loadModel.js';
import { measure, reportExtent } from './pruning/measure.js';
import { PruneRun } from './pruning/pruneRun.js';
import { publishPruned } from './pruning/publishPruned.js';
import { readInputs, recipeOf } from './pruning/readInputs.js';
import { healByTraining, repairWindows } from './pruning/repairWindows.js';
import { reportOfFinishedRun } from './pruning/reportOfFinishedRun.js';
import { withSmallerPlans } from './pruning/smallerPlans.js';
import type { PruneReport } from './report/schema/schema.js';
import { namedOptions, type OwnPruneOptions } from './request/ownStrategies.js';
import { checkPruneRequest } from './request/request.js';
import { openDevice } from './run/openDevice.js';

/**
 * Prunes the model in folder `from` into the new folder (or GGUF file) `to`, which appears only when the model is complete
 * and its outputs equal those of the model in memory.
 *
 * @throws RmError; see engine/errors.ts.
 */
export async function prune(
  from: string,
  to: string,
  pruneOptions: OwnPruneOptions = {},
): Promise<PruneReport> {
  const started = performance.now();
  const request = await checkPruneRequest(from, to, pruneOptions);
  const options = namedOptions(pruneOptions);
  const finished = await reportOfFinishedRun(from, to, options);
  if (finished) return finished;

  await using lease = await openDevice(options);
  const { device } = lease;
  return await withSmallerPlans(device, options, async (again, planned) => {
    await using run = await PruneRun.open(from, to, request, { ...again, device }, started);
    planned(run.plan);
    return await pruneAsPlanned(run);
  });
}

/** One attempt with one plan of the memory. */
async function pruneAsPlanned(run: PruneRun): Promise<PruneReport> {
  // The device is open, with the journal; now the data, then the model.
  using _budget = holdToPlan(run);
  const settings = recipeOf(run);
  const data = await readInputs(run, settings);
  const recipe = { ...settings, ...(data.date !== undefined && { date: data.date }) };
  await using model = await loadModel(run);
  using inputs = await openInputs(run, data, model);

  // Choose the windows, and repair the layers before them. Hidden states pass from the one to the other.
  using states = await openStates(run);
  const context = repairContext(run, recipe, data, inputs, states);
  const choice = await chooseWindows(run, context, data.statistics, inputs.heldOut);
  const healed = await chooseHealing(run, context, choice.windows);
  const repair = await repairWindows(run, context, choice.windows, healed);
  using pruned = new PrunedModel(inputs.model, choice.windows, repair.changes);
  states.dispose();
  await run.device.reclaim();

  // Heal and measure the result in memory.
  const healing = await healByTraining(run, inputs, pruned, choice.windows);
  await pruned.verifyFinite();
  const outputs = await inputs.outputs(pruned.model);
  const extent = await reportExtent(run);
  const measured = await measure(run, inputs, pruned, choice, outputs, extent);

  // Publish. Only the new weights are needed now: the written model is loaded into the freed memory.
  model.dispose();
  const result = { recipe, inputs, choice, repair, pruned, healing, outputs, extent, measured };
  return await publishPruned(run, result);
}
