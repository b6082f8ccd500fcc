import { type Device, elementCount, Scope } from '../../engine/index.js';
import { matmul } from '../../kernels/index.js';
import { type Architecture, expectedTensors, mlpSizes } from '../../model/index.js';

/** Flops of one layer for one token, by part: two for each multiply-add. */
export interface LayerFlops {
  /** Queries, keys, values and attention, up to what o_proj reads. */
  readonly attended: number;
  readonly attentionOutput: number;
  /** What down_proj reads. */
  readonly features: number;
  readonly mlpOutput: number;
  /** The whole layer. */
  readonly all: number;
}

/** The cost of one layer for one token; attention reads half of `sequenceLength` keys per token. */
export function layerFlops(arch: Architecture, sequenceLength: number): LayerFlops {
  const { hidden, intermediate, heads, kvHeads, headDim } = arch;
  const weights = expectedTensors(arch)
    .filter(tensor => tensor.layer === 0)
    .reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const { matrices, features: ofExpert } = mlpSizes(arch, 0);
  // Gate, up and down of the experts that a token does not use.
  const idle = matrices === 1 ? 0 : 3 * hidden * ofExpert * (matrices - (arch.experts?.perToken ?? matrices));
  const all = 2 * (weights - idle) + 2 * sequenceLength * heads * headDim;
  const attended = 2 * hidden * (heads + 2 * kvHeads) * headDim + 2 * sequenceLength * heads * headDim;
  const attentionOutput = 2 * heads * headDim * hidden;
  const mlpOutput = 2 * intermediate * hidden;
  const features = all - attended - attentionOutput - mlpOutput;
  return { attended, attentionOutput, features, mlpOutput, all };
}

/** Flops of one layer for one token. */
export const layerFlopsPerToken = (arch: Architecture, sequenceLength: number): number =>
  layerFlops(arch, sequenceLength).all;

/** Measured rate of the product that dominates a forward pass, in flop/s: median of five runs after a warm-up. */
export async function matmulRate(device: Device, arch: Architecture, rows: number): Promise<number> {
  using scope = new Scope(device);
  const a = scope.tensor([rows, arch.hidden]);
  const b = scope.tensor([arch.intermediate, arch.hidden], 'bf16');
  const c = scope.tensor([rows, arch.intermediate]);
  device.recorder.clear(a);
  device.recorder.clear(b);
  const times: number[] = [];
  for (let i = 0; i < 6; i++) {
    const start = performance.now();
    matmul(device.recorder, a, b, c, { transposeB: true });
    await device.recorder.finish();
    times.push((performance.now() - start) / 1000);
  }
  const median = times.slice(1).sort((x, y) => x - y)[2]!;
  return (2 * rows * arch.hidden * arch.intermediate) / median;
}
