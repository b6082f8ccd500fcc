import { LaterDownloads, noJournal, RmError, Scope, Tensor } from '../../engine/index.js';
import { cosineDistance } from '../../kernels/index.js';
import { Batch, type LayerWeights, type Model, ReferenceStates } from '../../model/index.js';
import { firstSequences } from '../calibration/calibrationBatch.js';
import { type MergeRule, mergedLayer } from '../fits/mergedLayer.js';
import { keptLayers, type Window } from '../run/window.js';
import type { WindowChoice } from '../run/windowChoice.js';
import { judgingOptions } from './judgingOptions.js';
import type { Selection, SelectionContext } from './selection.js';

/** Calibration tokens on which candidates are compared (the paper: ten short sentences). */
const SIMILARITY_TOKENS = 512;
/** Number of layers that each merge combines (C; the paper's choice for Llama-2-7B). */
const MERGED_LAYERS = 4;
/** The threshold T falls by a twentieth until enough layers are removed. */
const STEPS = 20;

/**
 * Similarity of a model with merged layers to the original: the cosine of the hidden states after the final norm, all
 * tokens of a sequence as one vector, averaged over sequences (as in the authors' notebook).
 */
export async function mergedSimilarity(
  original: ReferenceStates,
  windows: readonly Window[],
  rule: MergeRule,
): Promise<number> {
  const { model, groups } = original;
  const { device, arch } = model;
  using merged = new Scope(device);
  const layers = new Map<number, Partial<LayerWeights>>();
  for (const window of windows) {
    const weights = mergedLayer(model, window, rule);
    for (const tensor of Object.values(weights)) if (tensor) merged.own(tensor);
    layers.set(window.layer, weights);
  }
  const candidate = model.withLayers(keptLayers(windows, arch.layers), { layers });
  let sum = 0;
  using later = new LaterDownloads(device);
  for (const [index, group] of groups.entries()) {
    using scope = new Scope(device);
    using batch = new Batch(device, group);
    const row = async (either: Model) =>
      scope.own(await original.finalHidden(either, index, batch)).reshape([1, batch.tokens * arch.hidden]);
    const distance = Tensor.create(device, [1], 'f32', 'distance');
    cosineDistance(device.recorder, await row(model), await row(candidate), distance);
    await later.readF32([distance], ([values]) => {
      sum += 1 - values![0]!;
    });
  }
  await later.arrive();
  return sum / groups.length;
}

/**
 * Merges C layers into one, from the last layer down; accepts a merge if the model's similarity stays above T. The paper
 * fixes T; here T falls until `count` layers are removed, and the last merge takes only the missing layers. Merges lie C
 * layers apart (the paper's interval I), so that none includes a merged layer; C grows where too few merges would fit.
 */
async function select(context: SelectionContext, rule: MergeRule): Promise<WindowChoice> {
  const { model, count, batches, onProgress, signal, journal = noJournal } = context;
  const { layers } = model.arch;
  let size = MERGED_LAYERS;
  while (Math.floor(layers / size) * (size - 1) < count) size++;
  using original = await ReferenceStates.of(model, firstSequences(batches, SIMILARITY_TOKENS), {
    ...judgingOptions(context),
    // One sequence per batch.
    batchTokens: 1,
    ...(signal && { signal }),
    journal,
  });
  const similarities = new Map<string, number>();
  const similarity = async (windows: readonly Window[]): Promise<number> => {
    const key = JSON.stringify(windows);
    if (!similarities.has(key)) {
      signal?.throwIfAborted();
      const measure = () => mergedSimilarity(original, windows, rule);
      similarities.set(key, await journal.step('similarity', measure));
      onProgress?.({ phase: 'similarity', done: similarities.size, total: 0, unit: 'candidates' });
    }
    return similarities.get(key)!;
  };
  // Below -1 every merge is accepted.
  for (let step = STEPS - 1; step >= -STEPS - 1; step--) {
    const threshold = step / STEPS;
    let windows: Window[] = [];
    let left = count;
    for (let layer = layers - size; layer >= 0 && left > 0; ) {
      const candidate = [{ layer, count: Math.min(size - 1, left) }, ...windows];
      const accepted = (await similarity(candidate)) > threshold;
      if (accepted) {
        windows = candidate;
        left -= candidate[0]!.count;
      }
      layer -= accepted ? size : 1;
    }
    if (left === 0) return { windows, by: `similarity above ${threshold} of merged layers` };
  }
  throw new RmError(
    'NOT_FINITE',
    'the layers that LaCo merged produce hidden states with NaN or infinity',
    'Choose another method (rm-engine methods).',
  );
}

export const laco: Selection = {
  name: 'laco',
  summary: 'merges of layers, from the last one down, that leave the last hidden states most similar',
  source: 'Yang et al., LaCo, arXiv:2402.11187',
  judgesText: true,
  select: context => select(context, 'paper'),
  memory: ({ tokens, count }) => ({
    judged: Math.min(tokens, SIMILARITY_TOKENS),
    windows: Math.ceil(count / (MERGED_LAYERS - 1)),
  }),
};

export const lacoReleased: Selection = {
  ...laco,
  name: 'laco-released',
  summary: "the same, layers merged as in its authors' program",
  source: 'github.com/yangyifei729/LaCo (laco_llama-13b.ipynb)',
  select: context => select(context, 'released'),
};
