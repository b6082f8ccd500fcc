import type { ProductExtents } from '../../kernels/index.js';
import type { Architecture } from '../../model/index.js';
import { SAMPLES } from '../evaluation/samples.js';
import { layerFlops } from '../run/computeRate.js';
import { attentionSeconds, type DeviceSpeed, productSeconds, rowsSeconds } from './deviceSpeed.js';
import { DISK_GIGABYTES, type PlannedRates } from './timePlan.js';

/** Rows that go through a layer together, and the keys that each sees at the most. */
interface LayerRows {
  readonly rows: number;
  readonly keys: number;
  /** Whether the rows are tokens of different sequences, each with `keys` keys; else each sees half of them on average. */
  readonly separate?: boolean;
}

/** Seconds of one layer with weights in bf16: its products, its attention, and its norms and rotations. */
export function layerSeconds(speed: DeviceSpeed, arch: Architecture, of: LayerRows): number {
  const { rows, keys, separate = false } = of;
  const { hidden, intermediate, heads, kvHeads, headDim, tensorNames } = arch;
  const product = (n: number, k: number) => productSeconds(speed, { m: rows, n, k }, ['f32', 'bf16']);
  const gated = tensorNames.layers[0]?.gate !== null;
  const mlp: ProductExtents = { m: rows, n: intermediate, k: hidden };
  const features = gated
    ? productSeconds(speed, mlp, ['f32', 'bf16', 'bf16'])
    : product(intermediate, hidden);
  // A mixture's router comes on top.
  const more = (layerFlops(arch, 0).features * rows) / ((gated ? 4 : 2) * rows * intermediate * hidden);
  const seen = separate ? keys : keys / 2;
  const work = {
    flops: 4 * rows * seen * heads * headDim,
    bytes: 4 * (2 * rows * heads + 2 * rows * (separate ? keys : 1) * kvHeads) * headDim,
  };
  return (
    product(heads * headDim, hidden) +
    2 * product(kvHeads * headDim, hidden) +
    product(hidden, heads * headDim) +
    more * features +
    product(hidden, intermediate) +
    attentionSeconds(speed, work) +
    2 * rowsSeconds(speed, 8 * rows * hidden) +
    2 * rowsSeconds(speed, 4 * rows * (heads + kvHeads) * headDim)
  );
}

/** Seconds of the logits of so many rows. */
export const headSeconds = (speed: DeviceSpeed, { hidden, vocab }: Architecture, rows: number): number =>
  productSeconds(speed, { m: rows, n: vocab, k: hidden }, ['f32', 'bf16']);

/** Seconds of a sequence's pass up to the logits of its last token. */
export const prefillSeconds = (speed: DeviceSpeed, arch: Architecture, tokens: number): number =>
  arch.layers * layerSeconds(speed, arch, { rows: tokens, keys: tokens }) +
  headSeconds(speed, arch, 1) +
  speed.roundTripMicroseconds / 1e6;

/** Seconds of a token behind so many others. */
export const tokenSeconds = (speed: DeviceSpeed, arch: Architecture, keys: number): number =>
  arch.layers * layerSeconds(speed, arch, { rows: 1, keys, separate: true }) +
  headSeconds(speed, arch, 1) +
  speed.roundTripMicroseconds / 1e6;

/** The rates of a plan by arithmetic: of a layer over a batch of sequences, and of samples that are written token by token. */
export function predictedRates(
  speed: DeviceSpeed,
  arch: Architecture,
  { batchTokens, sequenceLength }: { readonly batchTokens: number; readonly sequenceLength: number },
): PlannedRates {
  const length = Math.min(batchTokens, sequenceLength);
  const rate = (rows: number, keys: number, of: number) => (rows * layerFlops(arch, keys).all) / of / 1e9;
  const many = layerSeconds(speed, arch, { rows: batchTokens, keys: length });
  const one = layerSeconds(speed, arch, { rows: SAMPLES.prompts, keys: 1, separate: true });
  return {
    ...{ layerGflops: rate(batchTokens, length, many), layerMeasured: false },
    singleGflops: rate(SAMPLES.prompts, 1, one),
    ...{ uploadGigabytes: speed.uploadGigabytes, uploadMeasured: false },
    diskGigabytes: DISK_GIGABYTES,
  };
}
