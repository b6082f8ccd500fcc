import { type Device, elementCount, Scope } from '../../engine/index.js';
import { matmul } from '../../kernels/index.js';
import { type Architecture, expectedTensors } from '../../model/index.js';

/** Flops of one layer per token: two per multiply-add; attention reads half of `sequenceLength` keys per token. */
export function layerFlopsPerToken(arch: Architecture, sequenceLength: number): number {
  const weights = expectedTensors(arch)
    .filter(tensor => tensor.layer === 0)
    .reduce((sum, { shape }) => sum + elementCount(shape), 0);
  return 2 * weights + 2 * sequenceLength * arch.heads * arch.headDim;
}

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
