import { downloadF32, Scope } from '../../engine/index.js';
import { cosineDistance } from '../../kernels/cosineDistance.js';
import { BatchTensors, type StateHome } from '../../model/batchTensors.js';
import type { Model } from '../../model/model.js';
import { forward, type Tap } from '../../model/transformer.js';
import { batchedTokens, type CalibrationBatch, OpenBatches, walkGroups } from '../calibrationBatch.js';
import { meansOf, notFinite } from '../distance.js';
import type { RowSums } from '../statistics/store.js';
import type { WalkOptions } from '../walk.js';
import { windowsOf } from '../window.js';
import { DISTANCE_TOKENS, rankingBatches } from './cosine.js';
import { windowMeans } from './means.js';
import type { Selection, SelectionContext, WindowChoice, WindowMeans } from './selection.js';

/** A walk whose states may wait elsewhere. */
type InfluenceOptions = WalkOptions & { readonly home?: StateHome | undefined };

/**
 * Block Influence of every layer, BI_l = 1 - mean over all tokens of cos(X_l, L_l), X_l its input and L_l its output.
 *
 * @throws RmError NOT_FINITE naming the first layer whose states hold NaN or infinity.
 */
export async function blockInfluences(
  model: Model,
  batches: readonly CalibrationBatch[],
  walk: InfluenceOptions = {},
): Promise<number[]> {
  return meansOf(await influenceSums(model, batches, walk));
}

async function influenceSums(
  model: Model,
  batches: readonly CalibrationBatch[],
  { onProgress, signal, home }: InfluenceOptions,
): Promise<RowSums> {
  const { device, arch } = model;
  using _section = device.section('distances');
  const sums = new Array<number>(arch.layers).fill(0);
  const total = batchedTokens(batches);
  let tokens = 0;
  for (const group of walkGroups(model, batches)) {
    using scope = new Scope(device);
    using states = new BatchTensors(device, home);
    using opened = new OpenBatches(device, group);
    const walked = opened.batches.map(batch => ({
      batch,
      distances: scope.tensor([arch.layers, batch.tokens], 'f32', 'distances'),
    }));
    for (let layer = 0; layer < arch.layers; layer++) {
      await model.hold(layer, layer + 1);
      for (const [index, { batch, distances }] of walked.entries()) {
        signal?.throwIfAborted();
        using temporary = new Scope(device);
        const input = layer > 0 ? await states.get(index, temporary) : undefined;
        const tap: Tap = (_, { layerInput, layerOutput }) => {
          const current = temporary.tensor([batch.tokens], 'f32', 'distance');
          cosineDistance(device.recorder, layerInput, layerOutput, current);
          device.recorder.copy(current, distances.rows(layer, 1));
        };
        const output = forward(model, batch, { from: layer, to: layer + 1, tap, ...(input && { input }) });
        await states.put(index, output);
        if (model.streams) await device.recorder.finish();
      }
    }
    for (const { batch, distances } of walked) {
      for (const [i, distance] of (await downloadF32(distances)).entries()) {
        sums[Math.floor(i / batch.tokens)]! += distance;
      }
      tokens += batch.tokens;
    }
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
  layerByLayer: true,
  means,
  select,
  tokens: ({ tokens }) => Math.min(tokens, DISTANCE_TOKENS),
};
