import { totalTokens } from '../../model/index.js';
import { batchedTokens, type CalibrationBatch } from '../calibration/calibrationBatch.js';
import type { WindowChoice } from '../run/windowChoice.js';
import { type DistanceMeasure, windowDistanceSums } from '../windowMap/windowDistances.js';
import { equalWindowSize, greedyWindows } from './greedyWindows.js';
import { meanDistances } from './meanDistances.js';
import type { DistanceSums, Selection, SelectionContext } from './selection.js';

/** Calibration tokens that suffice to rank windows. */
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
 * The mean distance between the ends of every window over all tokens of `batches`, for windows of equal size,
 * `context.windowCount` of which remove `context.count` layers.
 */
export function equalWindowDistances(
  context: SelectionContext,
  by: string,
  batches: readonly CalibrationBatch[],
  measure?: DistanceMeasure,
): DistanceSums {
  const { model } = context;
  const size = equalWindowSize(context);
  const sum = async (some: readonly CalibrationBatch[]) => {
    const [sums] = await windowDistanceSums(model, some, [size], { ...context, ...(measure && { measure }) });
    return sums!;
  };
  return { by, count: size, batches, sum };
}

/** The windows whose ends differ least. */
export async function nearestWindow(context: SelectionContext, sums: DistanceSums): Promise<WindowChoice> {
  const { windowCount, apart } = context;
  const distances = await meanDistances(context, sums);
  return { windows: greedyWindows(distances, sums.count, windowCount, apart), by: sums.by, distances };
}

const distanceSums = (context: SelectionContext) =>
  equalWindowDistances(context, 'mean cosine distance', rankingBatches(context.batches));

export const cosine: Selection = {
  name: 'cosine',
  summary: 'smallest mean cosine distance between the ends of a window, over all tokens',
  source: 'ReplaceMe (Eq. 4), arXiv:2505.02819; LLM-Streamline, arXiv:2403.19135',
  dividesInWindows: 'equal',
  layerByLayer: true,
  distanceSums,
  select: async context => {
    const sums = distanceSums(context);
    const { count, batches } = sums;
    const choice = await nearestWindow(context, sums);
    const windows = choice.distances!.map((cosine, layer) => ({ layer, count, cosine }));
    return { ...choice, map: { layers: context.model.arch.layers, tokens: batchedTokens(batches), windows } };
  },
  tokens: ({ tokens }) => Math.min(tokens, DISTANCE_TOKENS),
};
