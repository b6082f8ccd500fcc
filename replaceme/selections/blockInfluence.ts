import { downloadF32, liveSums, noJournal, Scope } from '../../engine/index.js';
import { cosineDistance } from '../../kernels/index.js';
import { BatchTensors, forward, type Model, type StatePlacement, type Tap } from '../../model/index.js';
import {
  type CalibrationBatch,
  OpenBatches,
  sequencesOf,
  walkGroups,
} from '../calibration/calibrationBatch.js';
import { forEachGroup, type RunHooks } from '../run/runHooks.js';
import { windowsOf } from '../run/window.js';
import type { WindowChoice } from '../run/windowChoice.js';
import type { RowSums } from '../statistics/statisticsStore.js';
import { meansOf } from '../statistics/statisticsStore.js';
import { notFinite } from '../windowMap/windowDistances.js';
import { DISTANCE_TOKENS, rankingBatches } from './cosine.js';
import { meanDistances } from './meanDistances.js';
import type { DistanceSums, Selection, SelectionContext } from './selection.js';

/** A walk whose states may wait elsewhere. */
type InfluenceOptions = RunHooks & { readonly placement?: StatePlacement | undefined };

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
  options: InfluenceOptions,
): Promise<RowSums> {
  const { device, arch } = model;
  using _section = device.section('distances');
  const { signal, placement, journal = noJournal } = options;
  // A batch on its own is done in one go.
  const inner = model.isOffloaded ? journal : noJournal;
  const found = { sums: new Array<number>(arch.layers).fill(0), rows: 0 };
  using _held = await journal.track('sums', liveSums({}, found));
  const groups = walkGroups(model, batches);
  const sequencesOfAll = (group: readonly CalibrationBatch[]) => group.flatMap(sequencesOf);
  await forEachGroup(options, 'distances', groups, sequencesOfAll, async group => {
    using scope = new Scope(device);
    using states = new BatchTensors(device, placement);
    using _states = await inner.track('states', states);
    using opened = new OpenBatches(device, group);
    const walked = opened.batches.map(batch => ({
      batch,
      distances: scope.tensor([arch.layers, batch.tokens], 'f32', 'distances'),
    }));
    const distancesOf = Object.fromEntries(walked.map(({ distances }, index) => [index, distances]));
    using _distances = await inner.track('distances', liveSums(distancesOf));
    await inner.forEach('layers', arch.layers, async layer => {
      await model.loadLayer(layer, layer + 1);
      await inner.forEach('batches', walked.length, async index => {
        const { batch, distances } = walked[index]!;
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
        if (model.isOffloaded) await device.recorder.finish();
      });
    });
    for (const { batch, distances } of walked) {
      for (const [i, distance] of (await downloadF32(distances)).entries()) {
        found.sums[Math.floor(i / batch.tokens)]! += distance;
      }
      found.rows += batch.tokens;
    }
  });
  const broken = found.sums.findIndex(sum => !Number.isFinite(sum));
  if (broken >= 0) throw notFinite(broken, broken);
  return found;
}

const means = (context: SelectionContext): DistanceSums => ({
  by: 'block influence',
  count: 1,
  batches: rankingBatches(context.batches),
  sum: batches => influenceSums(context.model, batches, context),
});

async function select(context: SelectionContext): Promise<WindowChoice> {
  const influences = await meanDistances(context, means(context));
  const ranked = [...influences.keys()].sort((a, b) => influences[a]! - influences[b]!);
  return { windows: windowsOf(ranked.slice(0, context.count)), by: 'block influence' };
}

export const blockInfluence: Selection = {
  name: 'block-influence',
  summary: 'the layers that turn their input least, wherever they are',
  source: 'Men et al., ShortGPT, arXiv:2403.03853',
  layerByLayer: true,
  distanceSums: means,
  select,
  tokens: ({ tokens }) => Math.min(tokens, DISTANCE_TOKENS),
};
