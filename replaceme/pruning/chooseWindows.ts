import type { WindowChoice } from '../run/windowChoice.js';
import type { SelectionContext } from '../selections/index.js';
import type { StatisticsFile } from '../statistics/statisticsFile.js';
import { findLayers } from './findLayers.js';
import type { PruneRun } from './pruneRun.js';

type Context = Omit<SelectionContext, 'count' | 'windowCount' | 'apart' | 'method'>;

/**
 * The windows that the request names, else those that its selection chooses.
 *
 * @param statistics remembers the choice for later runs with the same settings.
 * @param heldOut text that judges how many layers may go, where a budget decides that.
 * @throws RmError as `Selection.select` and `findLayers`.
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
  const select = () => selection.select({ ...context, method, count, windowCount, apart });
  return await run.step('select', async () => {
    if (!statistics) return await select();
    // What the choice may depend on; selections read more tokens on a GPU.
    const repair = selection.dependsOnMethod ? [method.name, settings] : [];
    const key = [selection.name, device.info.kind, count, windowCount, apart, ...repair];
    return await statistics.choice(key, select);
  });
}
