import { downloadF32, Tensor } from '../../engine/index.js';
import { cosineDistance } from '../../kernels/cosineDistance.js';
import type { Model } from '../../model/model.js';
import { forward } from '../../model/transformer.js';
import { batchedTokens, type CalibrationBatch, openBatch } from '../calibrationBatch.js';
import { meansOf, notFinite } from '../distance.js';
import type { RowSums } from '../statistics/store.js';
import type { WalkOptions } from '../walk.js';
import { windowsOf } from '../window.js';
import { rankingBatches } from './cosine.js';
import { windowMeans } from './means.js';
import type { Selection, SelectionContext, WindowChoice, WindowMeans } from './selection.js';

/**
 * Block Influence of every layer, BI_l = 1 - mean over all tokens of cos(X_l, L_l), X_l its input and L_l its output.
 *
 * @throws RmError NOT_FINITE naming the first layer whose states hold NaN or infinity.
 */
export async function blockInfluences(
  model: Model,
  batches: readonly CalibrationBatch[],
  walk: WalkOptions = {},
): Promise<number[]> {
  return meansOf(await influenceSums(model, batches, walk));
}

async function influenceSums(
  model: Model,
  batches: readonly CalibrationBatch[],
  { onProgress, signal }: WalkOptions,
): Promise<RowSums> {
  const { device, arch } = model;
  using _section = device.section('distances');
  const sums = new Array<number>(arch.layers).fill(0);
  const total = batchedTokens(batches);
  let tokens = 0;
  for (const group of batches) {
    signal?.throwIfAborted();
    using batch = openBatch(device, group);
    using distances = Tensor.create(device, [arch.layers, batch.tokens], 'f32', 'distances');
    using current = Tensor.create(device, [batch.tokens], 'f32', 'distance');
    using _output = forward(model, batch, {
      tap: (layer, { layerInput, layerOutput }) => {
        cosineDistance(device.recorder, layerInput, layerOutput, current);
        device.recorder.copy(current, distances.rows(layer, 1));
      },
    });
    for (const [i, distance] of (await downloadF32(distances)).entries()) {
      sums[Math.floor(i / batch.tokens)]! += distance;
    }
    tokens += batch.tokens;
    onProgress?.({ phase: 'distances', done: tokens, total, unit: 'tokens' });
  }
  const broken = sums.findIndex(sum => !Number.isFinite(sum));
  if (broken >= 0) throw notFinite(broken, broken);
  return { sums, rows: tokens };
}

const means = (context: SelectionContext): WindowMeans => ({
  by: 'block influence',
  count: 1,
  batches: rankingBatches(context.batches),
  sum: batches => influenceSums(context.model, batches, context),
});

async function select(context: SelectionContext): Promise<WindowChoice> {
  const influences = await windowMeans(context, means(context));
  const ranked = [...influences.keys()].sort((a, b) => influences[a]! - influences[b]!);
  return { windows: windowsOf(ranked.slice(0, context.count)), by: 'block influence' };
}

export const blockInfluence: Selection = {
  name: 'block-influence',
  summary: 'the layers that turn their input least, wherever they are',
  source: 'Men et al., ShortGPT, arXiv:2403.03853',
  means,
  select,
};
