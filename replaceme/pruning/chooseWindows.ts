import { ensure } from '../../engine/index.js';
import { isGgufPath } from '../../model/index.js';
import { checkModelFiles } from '../request/request.js';
import { checkRemoved, removedLayers, type Window } from '../run/window.js';
import type { WindowChoice } from '../run/windowChoice.js';
import type { SelectionContext } from '../selections/index.js';
import type { StatisticsFile } from '../statistics/statisticsFile.js';
import { findLayers } from './findLayers.js';
import type { PruneRun } from './pruneRun.js';

type Context = Omit<SelectionContext, 'count' | 'windowCount' | 'apart' | 'method' | 'keepsPattern'>;

/**
 * The windows that the request names, else those that its selection chooses.
 *
 * @param statistics remembers the choice for later runs with the same settings.
 * @param heldOut text that judges how many layers may go, where a budget decides that.
 * @throws RmError as `Selection.select` and `findLayers`; UNSUPPORTED_FAMILY where the output's format cannot say what would
 *   be left.
 */
export async function chooseWindows(
  run: PruneRun,
  context: Context,
  statistics: StatisticsFile | undefined,
  heldOut: readonly (readonly number[])[],
): Promise<WindowChoice> {
  const { request, device } = run;
  if (request.windows) return { windows: request.windows, by: 'request' };
  const { budget } = request;
  if (budget) return await run.step('select', () => findLayers(run, context, budget, heldOut));
  const { selection, method, settings, count, windowCount, apart } = request;
  const keepsPattern = isGgufPath(run.to);
  const select = () => selection.select({ ...context, method, count, windowCount, apart, keepsPattern });
  const choice = await run.step('select', async () => {
    if (!statistics) return await select();
    // What the choice may depend on; selections read more tokens on a GPU. Earlier versions judged in one round.
    const repair = selection.dependsOnMethod ? [method.name, settings, 'two rounds'] : [];
    const pattern = keepsPattern ? ['keeps pattern'] : [];
    const key = [selection.name, device.info.kind, count, windowCount, apart, ...repair, ...pattern];
    return await statistics.choice(key, select);
  });
  checkChoice(choice, selection.name, run.request.arch.layers);
  // Not every selection knows what the output can say; better refused before the fit than after it.
  if (keepsPattern) await checkModelFiles(run.from, run.to, { ...request, windows: choice.windows });
  return choice;
}

/** Throws INVALID_ARGUMENT unless a selection, which may be the user's own, chose some of the model's layers. */
export function checkChoice({ windows }: WindowChoice, selection: string, layers: number): void {
  const fit = ({ layer, count }: Window) =>
    Number.isInteger(layer) && Number.isInteger(count) && layer >= 0 && count > 0 && layer + count < layers;
  ensure(
    Array.isArray(windows) && windows.length > 0 && windows.every(fit),
    `the selection ${selection} chose the windows ${JSON.stringify(windows)} of a model of ${layers} layers`,
    'A window { layer, count } keeps the layer and removes as many after it; all of them must exist.',
  );
  checkRemoved(removedLayers(windows), layers);
}
