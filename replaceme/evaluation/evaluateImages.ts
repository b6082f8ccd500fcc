import { imageEmbeddings, type Model } from '../../model/index.js';
import { keptLayers } from '../run/window.js';
import type { ImageEvaluation, ImageMeasures, PruneOutcome, Role } from './pruneEvaluation.js';

/** Compares a pruned encoder's embeddings with the original encoder's, image by image. */
export async function evaluateImages(
  { model, pruned, windows }: PruneOutcome,
  sequences: readonly (readonly number[])[],
  origin: ImageEvaluation['origin'],
): Promise<ImageEvaluation> {
  const dense = await imageEmbeddings(model, sequences);
  const measure = async (role: Role, encoder: Model): Promise<ImageMeasures> => ({
    role,
    layers: encoder.arch.layers,
    ...compare(dense, await imageEmbeddings(encoder, sequences), sequences.length),
  });
  const kept = model.withLayers(keptLayers(windows, model.arch.layers));
  return {
    images: sequences.length,
    origin,
    models: [await measure('plain', kept), await measure('result', pruned.model)],
  };
}

/** Compares `count` rows of embeddings in f64. */
function compare(
  dense: Float32Array,
  pruned: Float32Array,
  count: number,
): Pick<ImageMeasures, 'cosine' | 'lowestCosine' | 'relativeError'> {
  const columns = dense.length / count;
  let [error, norm, sum, lowest] = [0, 0, 0, 1];
  for (let row = 0; row < count; row++) {
    let [ab, aa, bb] = [0, 0, 0];
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      const [a, b] = [dense[i]!, pruned[i]!];
      ab += a * b;
      aa += a * a;
      bb += b * b;
      error += (a - b) ** 2;
    }
    const cosine = ab / Math.sqrt(aa * bb || 1);
    norm += aa;
    sum += cosine;
    lowest = Math.min(lowest, cosine);
  }
  return { cosine: sum / count, lowestCosine: lowest, relativeError: Math.sqrt(error / (norm || 1)) };
}
