import { LayerInputs } from '../activations/layerInputs.js';
import { lastRemoved, type Window } from '../run/window.js';
import { FitPass } from './fitPass.js';
import type { AccumulateContext } from './repair.js';
import { requireLayerBefore } from './repairInOrder.js';

/**
 * Sums statistics for every window that is fitted on the original model's inputs: the first, or all of them with
 * `settings.unprunedInputs`. The inputs of later windows depend on the fit of the first.
 *
 * @param isComplete whether earlier rounds left all sums of a window.
 * @param accumulate sums what is missing; returns false when another round must follow.
 * @returns whether all sums are complete.
 */
export async function accumulateWindows(
  context: AccumulateContext,
  windows: readonly Window[],
  isComplete: (window: Window) => Promise<boolean>,
  accumulate: (pass: FitPass, window: Window) => Promise<boolean>,
): Promise<boolean> {
  requireLayerBefore(windows);
  using inputs = new LayerInputs(context.model, context.batches, context);
  let complete = true;
  for (const window of context.settings.unprunedInputs ? windows : windows.slice(0, 1)) {
    if (await isComplete(window)) continue;
    await inputs.advance(window.layer);
    using targets = await inputs.ahead(lastRemoved(window) + 1);
    if (!(await accumulate(new FitPass(inputs, targets), window))) complete = false;
  }
  return complete;
}
