import { LayerInputs } from '../activations/layerInputs.js';
import { lastRemoved, type Window } from '../run/window.js';
import type { AccumulateContext } from './repair.js';
import { FitPass, requireLayerBefore } from './repairInOrder.js';

/**
 * Accumulates for every window that is fitted on the original model's inputs: the first, or with
 * `settings.unprunedInputs` all of them. Inputs of later ones depend on what is made of the first.
 *
 * @param known whether all sums of a window are there from earlier rounds.
 * @param gather sums what is missing; false where more is to follow.
 */
export async function accumulateWindows(
  context: AccumulateContext,
  windows: readonly Window[],
  known: (window: Window) => Promise<boolean>,
  gather: (pass: FitPass, window: Window) => Promise<boolean>,
): Promise<boolean> {
  requireLayerBefore(windows);
  using inputs = new LayerInputs(context.model, context.batches, context);
  let complete = true;
  for (const window of context.settings.unprunedInputs ? windows : windows.slice(0, 1)) {
    if (await known(window)) continue;
    await inputs.advance(window.layer);
    using targets = await inputs.ahead(lastRemoved(window) + 1);
    if (!(await gather(new FitPass(inputs, targets), window))) complete = false;
  }
  return complete;
}
