import { elementCount, exactSize, PIECE, sizeClass } from '../../engine/index.js';
import {
  type Architecture,
  type Checkpoint,
  deviceBytes,
  expectedTensors,
  mixingColumns,
  rotationRows,
  type StatePlacement,
} from '../../model/index.js';
import type { CalibrationSizes } from '../calibration/sizes.js';

/** Where weights and hidden states are during a run. */
export interface Placement {
  /**
   * "device": all weights stay on the device; "streamed": the layer in use, and the next one while it is prefetched; "one by
   * one": the layer in use alone.
   */
  readonly weights: 'device' | 'streamed' | 'one by one';
  readonly states: StatePlacement;
}

/** All placements, from the fastest to the one that needs least memory. */
export const placements = (dtype: StatePlacement['dtype']): Placement[] =>
  (['device', 'streamed', 'one by one'] as const).flatMap(weights =>
    [
      { place: 'device', dtype: 'f32', keepsInner: true } as const,
      { place: 'device', dtype: 'f32', keepsInner: false } as const,
      { place: 'host', dtype, keepsInner: false } as const,
    ].map(states => ({ weights, states })),
  );

/** The smallest batch that a plan proposes. */
export const LEAST_BATCH = 64;

/** Tokens of the largest batch: a sequence longer than `batchTokens` is a batch of its own. */
export const largestBatch = ({ tokens, batchTokens, sequenceLength }: CalibrationSizes): number =>
  Math.min(tokens, Math.max(batchTokens, sequenceLength));

/** The same run in batches of half the tokens, a quarter and so on. Sequences are cut to the batch; images cannot be. */
export function smallerBatches<T extends CalibrationSizes>(sizes: T, { vision }: Architecture): T[] {
  const smaller: T[] = [];
  const least = vision ? sizes.sequenceLength : LEAST_BATCH;
  for (let most = Math.floor(largestBatch(sizes) / 2); most >= least; most = Math.floor(most / 2)) {
    const batchTokens = Math.min(sizes.batchTokens, most);
    smaller.push({ ...sizes, batchTokens, sequenceLength: Math.min(sizes.sequenceLength, most) });
  }
  return smaller;
}

/** The settings that turn the present batches into smaller ones. */
export const batchOptions = (
  present: CalibrationSizes,
  { batchTokens, sequenceLength }: CalibrationSizes,
): string =>
  [
    ...(batchTokens < present.batchTokens ? [`\`batchTokens: ${batchTokens}\``] : []),
    ...(sequenceLength < present.sequenceLength ? [`\`sequenceLength: ${sequenceLength}\``] : []),
  ].join(' and ');

/** Bytes of a model's weights on the device. */
export interface WeightSizes {
  /** Of the largest layer. */
  readonly layerBytes: number;
  /** Beside streamed layers: all weights outside of them, and the pieces in which compressed weights arrive. */
  readonly outerBytes: number;
  readonly weightBytes: number;
}

/**
 * Bytes of a checkpoint's tensors on the device, with the rotary embedding for sequences of
 * `positions` tokens.
 */
export function weightSizes(arch: Architecture, checkpoint: Checkpoint, positions: number): WeightSizes {
  const layers = new Array<number>(arch.layers).fill(0);
  const rows = rotationRows(arch.contextLength, positions);
  let outerBytes = 0;
  let pieceBytes = 0;
  for (const { kind, rotaryDim } of arch.ropes) {
    outerBytes += sizeClass(4 * (kind === 'longrope' ? 2 : 1) * rows * rotaryDim);
  }
  for (const { name, layer } of expectedTensors(arch)) {
    const info = checkpoint.info(name);
    const bytes = exactSize(deviceBytes(info));
    if (info.blocks) pieceBytes = Math.max(pieceBytes, Math.min(PIECE, info.byteLength));
    if (layer === null) outerBytes += bytes;
    else layers[layer]! += bytes;
  }
  const weightBytes = layers.reduce((sum, bytes) => sum + bytes, outerBytes);
  // Two tensors arrive at a time.
  return { layerBytes: Math.max(...layers), outerBytes: outerBytes + 2 * pieceBytes, weightBytes };
}

/** Numbers in the largest layer's tensors. */
export function layerElements(arch: Architecture): number {
  const layers = new Array<number>(arch.layers).fill(0);
  for (const { layer, shape } of expectedTensors(arch)) {
    if (layer !== null) layers[layer]! += elementCount(shape);
  }
  return Math.max(...layers);
}

/** Factor for what plans leave out: small tensors, and buffers larger than their contents. */
export const HEADROOM = 1.05;

/** Bytes of the weights on the device while `most` layers are in use. */
export const heldBytes =
  ({ layerBytes, outerBytes, weightBytes }: WeightSizes, weights: Placement['weights'], layers: number) =>
  (most: number): number =>
    weights === 'device'
      ? weightBytes
      : outerBytes + (weights === 'streamed' ? Math.min(most, layers) : 1) * layerBytes;

/**
 * Bytes of a batch's f32 tensors: `hiddenColumns` of [T, hidden], `features` of [T, intermediate], attention's, and what
 * experts read and return.
 */
export function activationBytes(
  arch: Architecture,
  tokens: number,
  hiddenColumns: number,
  features: number,
): number {
  const { hidden, intermediate, linear, experts } = arch;
  const mixing = Math.max(...linear.map(mixer => mixingColumns(arch, mixer)));
  const routed = experts ? 2 * (experts.perToken * hidden + experts.count) : 0;
  return 4 * tokens * (hiddenColumns * hidden + features * intermediate + mixing + routed);
}

/** Columns of a tile of logits in which models are compared, at the most. */
const LOGIT_COLUMNS = 4096;

/** Bytes of a batch in the last norm and in the tiles of logits of two models. */
export const scoringBytes = ({ hidden, vocab }: Architecture, batchTokens: number): number =>
  4 * batchTokens * (4 * hidden + 2 * Math.min(LOGIT_COLUMNS, vocab));
