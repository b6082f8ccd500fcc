import { type Device, elementCount, Scope } from '../../engine/index.js';
import { matmul } from '../../kernels/index.js';
import { type Architecture, expectedTensors, mixedColumns, mlpSizes } from '../../model/index.js';

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

/** The cost of one layer for one token, the mean of all; attention reads half of `sequenceLength` keys per token. */
export function layerFlops(arch: Architecture, sequenceLength: number): LayerFlops {
  const { hidden, intermediate, layers, linear } = arch;
  const weights = expectedTensors(arch)
    .filter(({ layer }) => layer !== null)
    .reduce((sum, { shape }) => sum + elementCount(shape) / layers, 0);
  const mean = (of: (layer: number) => number) =>
    Array.from({ length: layers }, (_, layer) => of(layer)).reduce((sum, flops) => sum + flops / layers, 0);
  // Gate, up and down of the experts that a token does not use.
  const idle = mean(layer => {
    const { matrices, features } = mlpSizes(arch, layer);
    return matrices === 1 ? 0 : 3 * hidden * features * (matrices - (arch.experts?.perToken ?? matrices));
  });
  const columns = linear.map(mixer => mixedColumns(arch, mixer));
  const mixing = mean(layer => {
    const { out } = columns[layer]!;
    const mixer = linear[layer];
    if (!mixer) return 2 * sequenceLength * out;
    return mixer.kind === 'gated delta rule' ? 7 * mixer.keyDim * out : 0;
  });
  const all = 2 * (weights - idle) + mixing;
  const attended =
    mixing + 2 * hidden * mean(layer => columns[layer]!.q + columns[layer]!.k + columns[layer]!.v);
  const attentionOutput = 2 * hidden * mean(layer => columns[layer]!.out);
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
