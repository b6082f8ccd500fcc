import type { Model, StatePlacement } from '../../model/index.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import type { RunHooks } from '../run/runHooks.js';
import { windowsOf } from '../run/window.js';
import type { WindowChoice } from '../run/windowChoice.js';
import { meansOf } from '../statistics/statisticsStore.js';
import { layerDistanceSums } from '../windowMap/windowDistances.js';
import { DISTANCE_TOKENS, rankingBatches } from './cosine.js';
import { meanDistances } from './meanDistances.js';
import type { DistanceSums, Selection, SelectionContext } from './selection.js';

/**
 * Block Influence of every layer, BI_l = 1 - mean over all tokens of cos(X_l, L_l), X_l its input and L_l its output.
 *
 * @throws RmError NOT_FINITE naming the first layer whose states hold NaN or infinity.
 */
export const blockInfluences = async (
  model: Model,
  batches: readonly CalibrationBatch[],
  options: RunHooks & { readonly placement?: StatePlacement | undefined } = {},
): Promise<number[]> => meansOf(await layerDistanceSums(model, batches, options));

const distanceSums = ({ model, batches, states: _, ...options }: SelectionContext): DistanceSums => ({
  by: 'block influence',
  count: 1,
  batches: rankingBatches(batches),
  sum: some => layerDistanceSums(model, some, options),
});

async function select(context: SelectionContext): Promise<WindowChoice> {
  const influences = await meanDistances(context, distanceSums(context));
  const ranked = [...influences.keys()].sort((a, b) => influences[a]! - influences[b]!);
  return { windows: windowsOf(ranked.slice(0, context.count)), by: 'block influence' };
}

export const blockInfluence: Selection = {
  name: 'block-influence',
  summary: 'the layers that turn their input least, wherever they are',
  source: 'Men et al., ShortGPT, arXiv:2403.03853',
  layerByLayer: true,
  distanceSums,
  select,
  tokens: ({ tokens }) => Math.min(tokens, DISTANCE_TOKENS),
};
