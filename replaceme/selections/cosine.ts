import { ensure } from '../../engine/errors.js';
import { totalTokens } from '../../model/batch.js';
import { batchedTokens, type CalibrationBatch } from '../calibrationBatch.js';
import { type DistanceMeasure, windowDistances } from '../distance.js';
import { greedyWindows } from './greedy.js';
import type { Selection, SelectionContext, WindowChoice } from './selection.js';

/** Calibration tokens that only rank windows. */
export const DISTANCE_TOKENS = 8192;

/** The first batches, to this many tokens. */
export function rankingBatches(
  batches: readonly CalibrationBatch[],
  tokens = DISTANCE_TOKENS,
): CalibrationBatch[] {
  let left = tokens;
  return batches.filter(({ sequences }) => {
    const taken = left > 0;
    left -= totalTokens(sequences);
    return taken;
  });
}

/**
 * The window whose ends differ least by a mean over calibration tokens, over all those of `batches`; or as many
 * windows of equal size as are asked for.
 *
 * @param by names the measure, in reports and in the statistics file.
 */
export async function nearestWindow(
  context: SelectionContext,
  by: string,
  batches: readonly CalibrationBatch[],
  measure?: DistanceMeasure,
): Promise<WindowChoice> {
  const { model, count, windowCount, apart, states, statistics: store } = context;
  const size = count / windowCount;
  ensure(
    Number.isInteger(size),
    `${count} layers cannot be divided into ${windowCount} windows of equal size`,
    'Remove a multiple of --windows layers, or name them with --remove.',
  );
  let distances = store?.distances(by, size);
  if (!distances) {
    [distances] = await windowDistances(model, batches, [size], {
      ...context,
      ...(states && { states }),
      ...(measure && { measure }),
    });
    await store?.putDistances(by, size, distances!);
  }
  return { windows: greedyWindows(distances!, size, windowCount, apart), by, distances: distances! };
}

export const cosine: Selection = {
  name: 'cosine',
  summary: 'smallest mean cosine distance between the ends of a window, over all tokens',
  source: 'ReplaceMe (Eq. 4), arXiv:2505.02819; LLM-Streamline, arXiv:2403.19135',
  dividesInWindows: true,
  select: async context => {
    const batches = rankingBatches(context.batches);
    const choice = await nearestWindow(context, 'mean cosine distance', batches);
    const count = context.count / context.windowCount;
    const windows = choice.distances!.map((cosine, layer) => ({ layer, count, cosine }));
    return { ...choice, map: { layers: context.model.arch.layers, tokens: batchedTokens(batches), windows } };
  },
  tokens: ({ tokens }) => Math.min(tokens, DISTANCE_TOKENS),
};
