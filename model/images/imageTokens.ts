import {
  checkArguments,
  downloadF32,
  ensure,
  listOf,
  objectWith,
  type Progress,
  RmError,
  Scope,
  Tensor,
  tensorFrom,
  upload,
} from '../../engine/index.js';
import { addInto, convert, embedding, matmul } from '../../kernels/index.js';
import type { Architecture } from '../architecture/architecture.js';
import { requireVision } from '../architecture/modality.js';
import { aModel, aPath, runForms, settingsAmong, tokenLists } from '../arguments/forms.js';
import { Batch, defaultBatchTokens, groupSequences } from '../transformer/batch.js';
import type { Model } from '../transformer/model.js';
import { normalise } from '../transformer/norm.js';
import { embedTokens, finalNorm, forward } from '../transformer/transformer.js';
import { type ImageProcessor, readPixels } from './imageProcessor.js';

/** Settings of `showImages`. */
export interface ShowOptions {
  onProgress?: Progress;
  signal?: AbortSignal;
}

/** Images as tokens of a model. */
export interface ShownImages {
  /** The model with the images' tokens as its embedding table; it shares the rest and must not outlive the original. */
  readonly model: Model;
  /** Token ids of every image, its class token first. */
  readonly sequences: readonly (readonly number[])[];
  /** Frees the tokens. */
  [Symbol.dispose](): void;
}

/**
 * Reads image files and turns them into tokens of a vision encoder, so that batches, passes and fits work on images as on
 * text. A token is what enters layer 0: the class token or a patch, with its position, normalised.
 *
 * @throws RmError DATA_INVALID for a file that is not an image; CONFIG_INVALID if the processor makes images of another
 *   size than the model's; OUT_OF_MEMORY.
 */
export async function showImages(
  model: Model,
  processor: ImageProcessor,
  paths: readonly string[],
  options: ShowOptions = {},
): Promise<ShownImages> {
  checkArguments(
    'showImages',
    { model, processor, paths, options },
    {
      model: aModel,
      processor: objectWith('the result of readImageProcessor', 'resize', 'mean'),
      paths: listOf(aPath),
      options: settingsAmong<ShowOptions>(runForms),
    },
  );
  const { onProgress, signal } = options;
  const { device, arch } = model;
  const { imageSize } = requireVision(arch);
  using _section = device.section('images');
  const perImage = arch.contextLength;
  const sequences = paths.map((_, image) =>
    Array.from({ length: perImage }, (_, token) => image * perImage + token),
  );
  const table = Tensor.create(device, [paths.length * perImage, arch.hidden], 'f32', 'tokens of images');
  try {
    using scope = new Scope(device);
    const positions = positionTable(model, scope);
    const group = Math.max(1, Math.floor(defaultBatchTokens(device, arch) / perImage));
    for (let first = 0; first < paths.length; first += group) {
      signal?.throwIfAborted();
      const files = paths.slice(first, first + group);
      const patches: Float32Array[] = [];
      for (const path of files) {
        const { width, height, pixels } = await readPixels(path, processor);
        if (width !== imageSize || height !== imageSize) {
          throw new RmError(
            'CONFIG_INVALID',
            `preprocessor_config.json makes images of ${width}x${height}, but config.json says ${imageSize}x${imageSize}`,
            'Use the two files that the model was published with.',
          );
        }
        patches.push(unfolded(pixels, arch));
      }
      await embedPatches(model, patches, positions, table.rows(first * perImage, files.length * perImage));
      onProgress?.({ phase: 'images', done: first + files.length, total: paths.length, unit: 'images' });
    }
  } catch (error) {
    table.dispose();
    throw error;
  }
  const all = Array.from({ length: arch.layers }, (_, layer) => layer);
  return {
    model: model.withLayers(all, { embedding: table }),
    sequences,
    [Symbol.dispose]: () => table.dispose(),
  };
}

/** f32 [tokens of an image, hidden]: position embeddings, with the class token added to the first. */
function positionTable({ device, weights, arch }: Model, scope: Scope): Tensor {
  const { classToken, positions } = weights.vision!;
  const wide = (tensor: Tensor) => {
    const result = scope.tensor(tensor.shape, 'f32', tensor.label);
    convert(device.recorder, tensor, result);
    return result;
  };
  const table = wide(positions);
  addInto(device.recorder, table.rows(0, 1), wide(classToken).reshape([1, arch.hidden]));
  return table;
}

/** Unfolds pixels into patches [tokens of an image, channels * side * side]; the class token's row is zero. */
function unfolded(pixels: Float32Array, { vision, contextLength }: Architecture): Float32Array {
  const { imageSize, patchSize: side, channels } = vision!;
  const across = Math.floor(imageSize / side);
  const columns = channels * side * side;
  const rows = new Float32Array(contextLength * columns);
  for (let patch = 0; patch < across * across; patch++) {
    const [top, left] = [Math.floor(patch / across) * side, (patch % across) * side];
    for (let line = 0; line < channels * side; line++) {
      const [channel, y] = [Math.floor(line / side), line % side];
      const from = (channel * imageSize + top + y) * imageSize + left;
      rows.set(pixels.subarray(from, from + side), (patch + 1) * columns + line * side);
    }
  }
  return rows;
}

/** out [tokens of some images, hidden] = norm(patches W^T + positions). */
async function embedPatches(
  { device, weights, arch }: Model,
  patches: readonly Float32Array[],
  positions: Tensor,
  out: Tensor,
): Promise<void> {
  const rec = device.recorder;
  const { embedding: kernel, vision } = weights;
  const perImage = arch.contextLength;
  using scope = new Scope(device);
  const columns = kernel.size / arch.hidden;
  const rows = scope.tensor([patches.length * perImage, columns], 'f32', 'patches');
  for (const [i, values] of patches.entries()) {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    await upload(rows.rows(i * perImage, perImage), bytes);
  }
  const ids = Uint32Array.from({ length: rows.rowCount }, (_, i) => i % perImage);
  const placed = scope.tensor(out.shape, 'f32', 'positions');
  embedding(rec, positions, scope.own(tensorFrom(device, ids)), placed);
  const embedded = scope.tensor(out.shape, 'f32', 'embedded patches');
  matmul(rec, rows, kernel.reshape([arch.hidden, columns]), embedded, {
    transposeB: true,
    residual: placed,
  });
  normalise(rec, arch.norm, embedded, [vision!.norm, vision!.normBias], out);
  await rec.finish();
}

/**
 * Computes the embeddings of shown images, f32 [images, projection] (without a projection [images, hidden]): the class
 * token after the final norm, projected, like `image_embeds` or `pooler_output` in transformers.
 */
export async function imageEmbeddings(
  model: Model,
  sequences: readonly (readonly number[])[],
): Promise<Float32Array> {
  checkArguments('imageEmbeddings', { model, sequences }, { model: aModel, sequences: tokenLists });
  const { device, arch, weights } = model;
  const { projection } = requireVision(arch);
  ensure(sequences.length > 0, 'there are no images', 'Give at least one image.');
  const rec = device.recorder;
  const parts: Float32Array[] = [];
  for (const group of groupSequences(sequences, defaultBatchTokens(device, arch))) {
    using scope = new Scope(device);
    using batch = new Batch(device, group);
    const hidden = scope.own(await throughLayers(model, batch));
    const first = Uint32Array.from(batch.rowsOf, rows => rows[0]!);
    const states = scope.tensor([group.length, arch.hidden], 'f32', 'class tokens');
    embedding(rec, hidden, scope.own(tensorFrom(device, first)), states);
    const normed = scope.own(finalNorm(model, states));
    if (projection === null) {
      parts.push(await downloadF32(normed));
      continue;
    }
    const projected = scope.tensor([group.length, projection], 'f32', 'image embeddings');
    matmul(rec, normed, weights.lmHead, projected, { transposeB: true });
    parts.push(await downloadF32(projected));
  }
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const values of parts) {
    all.set(values, at);
    at += values.length;
  }
  return all;
}

/** Hidden states after the last layer; loads an offloaded model layer by layer. The caller disposes them. */
async function throughLayers(model: Model, batch: Batch): Promise<Tensor> {
  const { layers } = model.arch;
  if (!model.isOffloaded) return forward(model, batch);
  let hidden = embedTokens(model, batch);
  for (let layer = 0; layer < layers; layer++) {
    using input = hidden;
    await model.loadLayer(layer, layer + 1 < layers ? layer + 1 : undefined);
    hidden = forward(model, batch, { from: layer, to: layer + 1, input });
  }
  return hidden;
}
