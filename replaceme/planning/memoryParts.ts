import { elementCount, sizeClass } from '../../engine/index.js';
import {
  type Architecture,
  type Checkpoint,
  deviceBytes,
  expectedTensors,
  rotationRows,
  type StatePlacement,
} from '../../model/index.js';
import type { CalibrationSizes } from '../calibration/sizes.js';

/** Where weights and hidden states are during a run. */
export interface Placement {
  /**
   * "device": all weights, all the time; "streamed": the layer in use and the next one on its way; "one by one": the
   * layer in use alone.
   */
  readonly weights: 'device' | 'streamed' | 'one by one';
  readonly states: StatePlacement;
}

/** From where most is possible and fast to where least memory is needed. */
export const placements = (dtype: StatePlacement['dtype']): Placement[] =>
  (['device', 'streamed', 'one by one'] as const).flatMap(weights =>
    [
      { place: 'device', dtype: 'f32', keepsInner: true } as const,
      { place: 'device', dtype: 'f32', keepsInner: false } as const,
      { place: 'host', dtype, keepsInner: false } as const,
    ].map(states => ({ weights, states })),
  );

/** Fewer tokens at a time are not proposed. */
const LEAST_BATCH = 64;

/** Tokens of the largest batch: a sequence that is longer than a batch stands alone. */
export const largestBatch = ({ tokens, batchTokens, sequenceLength }: CalibrationSizes): number =>
  Math.min(tokens, Math.max(batchTokens, sequenceLength));

/** The same run in batches of half the tokens, a quarter and so on; sequences are cut to that, images cannot be. */
export function smallerBatches<T extends CalibrationSizes>(sizes: T, { vision }: Architecture): T[] {
  const found: T[] = [];
  const least = vision ? sizes.sequenceLength : LEAST_BATCH;
  for (let most = Math.floor(largestBatch(sizes) / 2); most >= least; most = Math.floor(most / 2)) {
    const batchTokens = Math.min(sizes.batchTokens, most);
    found.push({ ...sizes, batchTokens, sequenceLength: Math.min(sizes.sequenceLength, most) });
  }
  return found;
}

/** The options that make batches of one size those of a smaller one. */
export const batchOptions = (
  usual: CalibrationSizes,
  { batchTokens, sequenceLength }: CalibrationSizes,
): string =>
  [
    ...(batchTokens < usual.batchTokens ? [`\`batchTokens: ${batchTokens}\``] : []),
    ...(sequenceLength < usual.sequenceLength ? [`\`sequenceLength: ${sequenceLength}\``] : []),
  ].join(' and ');

/** Bytes of a model's weights on the device. */
export interface WeightSizes {
  /** Of the largest layer, and of what is no layer's. */
  readonly layerBytes: number;
  readonly outerBytes: number;
  readonly weightBytes: number;
}

/**
 * Bytes of a checkpoint's tensors on the device, in buffers of the sizes that there are; with the rotary embedding of
 * sequences of `positions` tokens.
 */
export function weightSizes(arch: Architecture, checkpoint: Checkpoint, positions: number): WeightSizes {
  const layers = new Array<number>(arch.layers).fill(0);
  const rows = rotationRows(arch.contextLength, positions);
  let outerBytes = 0;
  for (const { kind, rotaryDim } of arch.ropes) {
    outerBytes += sizeClass(4 * (kind === 'longrope' ? 2 : 1) * rows * rotaryDim);
  }
  for (const { name, layer } of expectedTensors(arch)) {
    const bytes = sizeClass(deviceBytes(checkpoint.info(name)));
    if (layer === null) outerBytes += bytes;
    else layers[layer]! += bytes;
  }
  const weightBytes = layers.reduce((sum, bytes) => sum + bytes, outerBytes);
  return { layerBytes: Math.max(...layers), outerBytes, weightBytes };
}

/** Numbers in one layer's tensors. */
export const layerElements = (arch: Architecture): number =>
  expectedTensors(arch)
    .filter(({ layer }) => layer === 0)
    .reduce((sum, { shape }) => sum + elementCount(shape), 0);

/** What plans leave out: small tensors, and buffers that are larger than what they hold. */
export const HEADROOM = 1.05;

/** Bytes of the weights that are on the device where `most` layers are of use. */
export const heldBytes =
  ({ layerBytes, outerBytes, weightBytes }: WeightSizes, weights: Placement['weights'], layers: number) =>
  (most: number): number =>
    weights === 'device'
      ? weightBytes
      : outerBytes + (weights === 'streamed' ? Math.min(most, layers) : 1) * layerBytes;

/** Bytes of a batch's tensors: so many with hidden columns, so many with MLP features, and attention's. */
export const activationBytes = (
  { hidden, intermediate, heads, kvHeads, headDim }: Architecture,
  tokens: number,
  hiddenColumns: number,
  features: number,
): number =>
  4 * tokens * (hiddenColumns * hidden + features * intermediate + 2 * (heads + kvHeads) * headDim);
