import {
  checkArguments,
  downloadF32,
  listOf,
  objectWith,
  type Progress,
  RmError,
  Scope,
  Tensor,
  tensorFrom,
  upload,
} from '../../engine/index.js';
import { embedding, matmul } from '../../kernels/index.js';
import type { Architecture } from '../architecture/architecture.js';
import { requireVision } from '../architecture/modality.js';
import { aModel, aPath, runForms, settingsAmong } from '../arguments/forms.js';
import { defaultBatchTokens } from '../transformer/batch.js';
import type { Model } from '../transformer/model.js';
import { normalise } from '../transformer/norm.js';
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
  /** Token ids of every image, its class token first if it has one. */
  readonly sequences: readonly (readonly number[])[];
  /** Frees the tokens. */
  [Symbol.dispose](): void;
}

/**
 * Reads image files and turns them into tokens of a vision encoder, so that batches, passes and fits work on images as on
 * text. A token is what enters layer 0: the class token or a patch, with its position, in CLIP normalised.
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
    const positions = await positionTable(model, scope);
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

/** Tokens of an image before its patches. */
const leadingTokens = ({ vision }: Architecture): number => (vision!.tensorNames.classToken === null ? 0 : 1);

/** f32 [tokens of an image, hidden]: what is added to a token, whatever the image: its position, and the class token or the patches' bias. */
async function positionTable({ device, weights, arch }: Model, scope: Scope): Promise<Tensor> {
  const { classToken, positions, patchBias } = weights.vision!;
  const table = await downloadF32(positions);
  const addRow = (row: number, values: Float32Array) => {
    for (let i = 0; i < arch.hidden; i++) table[row * arch.hidden + i]! += values[i]!;
  };
  if (classToken) addRow(0, await downloadF32(classToken));
  if (patchBias) {
    const bias = await downloadF32(patchBias);
    for (let row = leadingTokens(arch); row < arch.contextLength; row++) addRow(row, bias);
  }
  return scope.own(tensorFrom(device, table, [arch.contextLength, arch.hidden], 'positions'));
}

/** Unfolds pixels into patches [tokens of an image, channels * side * side]; the class token's row, if there is one, is zero. */
function unfolded(pixels: Float32Array, arch: Architecture): Float32Array {
  const { imageSize, patchSize: side, channels } = arch.vision!;
  const leading = leadingTokens(arch);
  const across = Math.floor(imageSize / side);
  const columns = channels * side * side;
  const rows = new Float32Array(arch.contextLength * columns);
  for (let patch = 0; patch < across * across; patch++) {
    const [top, left] = [Math.floor(patch / across) * side, (patch % across) * side];
    for (let line = 0; line < channels * side; line++) {
      const [channel, y] = [Math.floor(line / side), line % side];
      const from = (channel * imageSize + top + y) * imageSize + left;
      rows.set(pixels.subarray(from, from + side), (patch + leading) * columns + line * side);
    }
  }
  return rows;
}

/** out [tokens of some images, hidden] = norm(patches W^T + positions), without the norm where the encoder has none. */
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
  const { norm, normBias } = vision!;
  const embedded = norm ? scope.tensor(out.shape, 'f32', 'embedded patches') : out;
  matmul(rec, rows, kernel.reshape([arch.hidden, columns]), embedded, {
    transposeB: true,
    residual: placed,
  });
  if (norm) normalise(rec, arch.norm, embedded, [norm, normBias], out);
  await rec.finish();
}
