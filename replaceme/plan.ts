import { Device, elementCount, Scope } from '../engine/index.js';
import { matmul } from '../kernels/matmul.js';
import { type Architecture, expectedTensors } from '../model/architecture.js';
import { openSafetensors } from '../model/checkpoint/safetensors.js';
import { plannedStates } from './hiddenStates.js';
import { calibrationSizes, checkPruneRequest, DISTANCE_TOKENS, type PruneOptions } from './request.js';
import { describeWindow, lastRemoved } from './window.js';

/** What a prune would cost, found without reading weights or texts. */
export interface PrunePlan {
  /** "keep 11, remove 12..18 (7 of 30 layers)", or how many layers where the window is still to be chosen. */
  readonly summary: string;
  readonly method: string;
  readonly tokens: number;
  readonly batchTokens: number;
  /** Device memory in bytes; most of it is in use during the fit. */
  readonly memory: {
    readonly weights: number;
    readonly activations: number;
    readonly statistics: number;
    /** Kept from the walk that ranks windows, so that the fit need not compute them again. */
    readonly hiddenStates: number;
    readonly total: number;
  };
  readonly bytesRead: number;
  readonly flops: { readonly distances: number; readonly fit: number };
  /** Seconds of kernel time at the rate of a matrix product measured on this device just now. */
  readonly seconds: { readonly distances: number; readonly fit: number };
  readonly matmulGflops: number;
  readonly adapter: string;
}

/** Multiply-adds count as two; attention at half of `sequenceLength` keys a token. */
export function layerFlopsPerToken(arch: Architecture, sequenceLength: number): number {
  const weights = expectedTensors(arch)
    .filter(tensor => tensor.layer === 0)
    .reduce((sum, { shape }) => sum + elementCount(shape), 0);
  return 2 * weights + 2 * sequenceLength * arch.heads * arch.headDim;
}

/** Rate of the product that dominates a forward pass, in flop/s: median of five after a warm-up. */
async function matmulRate(device: Device, arch: Architecture, rows: number): Promise<number> {
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

/**
 * Checks the request as `prune` does and estimates memory and time.
 *
 * @throws RmError as `prune` does for a wrong request or a damaged model folder.
 */
export async function planPrune(from: string, options: PruneOptions = {}): Promise<PrunePlan> {
  const { method, arch, count, window } = await checkPruneRequest(from, undefined, options);
  const checkpoint = await openSafetensors(from);
  let weights = 0;
  let perLayer = 0;
  try {
    for (const { name, layer } of expectedTensors(arch)) {
      const { byteLength } = checkpoint.info(name);
      weights += byteLength;
      if (layer === 0) perLayer += byteLength;
    }
  } finally {
    await checkpoint.close();
  }

  const device = options.device ?? (await Device.open(options));
  try {
    const { hidden, intermediate, layers } = arch;
    const { tokens, sequenceLength, ...sizes } = calibrationSizes(options, device, arch);
    const batchTokens = Math.min(tokens, sizes.batchTokens);
    const rate = await matmulRate(device, arch, Math.min(256, batchTokens));
    const perToken = layerFlopsPerToken(arch, sequenceLength);
    const fitted = method.needsCalibration;
    const ranked = window ? 0 : Math.min(tokens, DISTANCE_TOKENS);
    // Of these tokens one layer runs again instead of all.
    const states = plannedStates(arch, fitted ? ranked : 0, device.memory.limit, weights);
    const depth = window ? lastRemoved(window) + 1 : layers;
    const flops = {
      distances: ranked * layers * perToken,
      fit: fitted
        ? ((tokens - states.tokens) * depth + states.tokens) * perToken + tokens * 3 * hidden * hidden
        : 0,
    };
    const attention = (2 * arch.heads + 2 * arch.kvHeads) * arch.headDim;
    const memory = {
      weights,
      activations: 4 * batchTokens * ((window ? 5 : count + 5) * hidden + 3 * intermediate + attention),
      // G, C and the solver's copies, each in two parts.
      statistics: fitted ? 4 * 12 * hidden * hidden : 0,
      hiddenStates: states.bytes,
    };
    return {
      summary: window
        ? describeWindow(window, layers)
        : `remove ${count} of ${layers} layers, where it is cheapest`,
      method: method.name,
      tokens,
      batchTokens,
      memory: {
        ...memory,
        total: memory.weights + memory.statistics + memory.activations + memory.hiddenStates,
      },
      // The written model is read again for the comparison.
      bytesRead: 2 * weights - count * perLayer,
      flops,
      seconds: { distances: flops.distances / rate, fit: flops.fit / rate },
      matmulGflops: rate / 1e9,
      adapter: device.info.description,
    };
  } finally {
    if (!options.device) await device.close();
  }
}
