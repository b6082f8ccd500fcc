import { Device, elementCount, Scope } from '../engine/index.js';
import { matmul } from '../kernels/matmul.js';
import { type Architecture, expectedTensors } from '../model/architecture.js';
import { openCheckpoint } from '../model/modelSource.js';
import { plannedStates } from './hiddenStates.js';
import { givesTexts, type PruneOptions } from './pruneOptions.js';
import { KEPT_BYTES } from './refitLayer.js';
import { calibrationSizes, checkPruneRequest, type PruneRequest } from './request.js';
import { RIDGES } from './ridgeStatistics.js';
import { describeWindows, lastRemoved } from './window.js';

/** What a prune would cost, found without reading weights or texts. */
export interface PrunePlan {
  /** "keep 11, remove 12..18 (7 of 30 layers)", or how many layers where the window is still to be chosen. */
  readonly summary: string;
  readonly method: string;
  readonly tokens: number;
  /** Of which the model writes these itself, one by one; that time is not in `seconds`. */
  readonly generated: number;
  readonly batchTokens: number;
  /** Device memory in bytes; most of it is in use during the fit. */
  readonly memory: {
    readonly weights: number;
    readonly activations: number;
    readonly statistics: number;
    /** Of all calibration tokens, what the original model and the pruned one give to a layer. */
    readonly streams: number;
    /** Kept from the walk that ranks windows, so that the fit need not compute them again. */
    readonly hiddenStates: number;
    /** Hidden states are given up where the fit begins, which needs streams and statistics. */
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

interface FitCost {
  /** Of the forward passes, the sums and the solves. */
  readonly flops: number;
  /** Layers that all tokens go through before the first fit. */
  readonly depth: number;
  readonly statistics: number;
  readonly streams: number;
}

/** Ridges that are tried on the held-out half, and the one solve with all tokens. */
const RIDGE_SOLVES = RIDGES.length + 1;

/** A ridge regression of [inputs, outputs]: two halves of G and C, the factor, the solution and a product. */
const ridgeCost = (tokens: number, inputs: number, outputs: number) => ({
  flops:
    2 * tokens * inputs * (inputs + outputs) + RIDGE_SOLVES * inputs * inputs * (inputs / 3 + 4 * outputs),
  bytes: 4 * inputs * (3 * inputs + 5 * outputs),
});

/** What a fit takes besides weights and activations; where the window is not known yet, at the most. */
function fitCost(
  { arch, count, windows, windowCount, method, settings }: PruneRequest,
  tokens: number,
  perToken: number,
  heals: boolean,
): FitCost {
  const { hidden, intermediate, layers } = arch;
  const attended = arch.heads * arch.headDim;
  const cuts = windows?.length ?? windowCount;
  const depth = windows ? lastRemoved(windows.at(-1)!) + 1 : layers;
  const healed = heals ? (windows ? layers - lastRemoved(windows[0]!) - 1 : layers - count - 1) : 0;
  const projections = [ridgeCost(tokens, attended, hidden), ridgeCost(tokens, intermediate, hidden)];
  const refits = healed + (method.gathers === 'features Gram' ? cuts : 0);
  // The layer runs for o_proj, for down_proj and for its output.
  const refitFlops = 3 * tokens * perToken + projections.reduce((sum, { flops }) => sum + flops, 0);
  const refitBytes = Math.max(...projections.map(({ bytes }) => bytes));
  const state = 4 * tokens * hidden;
  // Of a layer that is refitted: A, Y and, where there is room, H.
  const kept = 4 * tokens * attended + state + Math.min(KEPT_BYTES, 4 * tokens * intermediate);
  const other = {
    'outputs Gram': {
      flops: cuts * tokens * (perToken + 3 * hidden * hidden),
      bytes: 4 * 12 * hidden * hidden,
    },
    // M, what it is compared with, and both once more in the order of an epoch.
    tokens: {
      flops: cuts * tokens * (perToken + 6 * (settings.cosine?.epochs ?? 10) * hidden * hidden),
      bytes: 3 * state + 4 * 6 * hidden * hidden,
    },
    'features Gram': { flops: 0, bytes: 0 },
  }[method.gathers ?? 'features Gram'];
  return {
    flops: tokens * (depth + healed) * perToken + refits * refitFlops + other.flops,
    depth,
    statistics: Math.max(refits > 0 ? refitBytes + kept : 0, other.bytes),
    streams: (healed > 0 ? 3 : 2) * state,
  };
}

/**
 * Checks the request as `prune` does and estimates memory and time.
 *
 * @throws RmError as `prune` does for a wrong request or a damaged model folder.
 */
export async function planPrune(from: string, options: PruneOptions = {}): Promise<PrunePlan> {
  const request = await checkPruneRequest(from, undefined, options);
  const { method, arch, count, windows } = request;
  const checkpoint = await openCheckpoint(from);
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
    const { sequenceLength, ...sizes } = calibrationSizes(options, device, arch);
    const copies = options.mask === undefined ? 1 : 2;
    const written = options.generate ?? 0;
    const tokens = copies * (written && !givesTexts(options) ? written : sizes.tokens + written);
    const batchTokens = Math.min(tokens, sizes.batchTokens);
    const rate = await matmulRate(device, arch, Math.min(256, batchTokens));
    const perToken = layerFlopsPerToken(arch, sequenceLength);
    const { heal } = request.settings;
    const fitted = method.needsCalibration || heal;
    const ranked = windows ? 0 : (request.selection.tokens?.({ device, layers, count, tokens }) ?? tokens);
    // Of these tokens the layers below the cut need not run again.
    const states = plannedStates(arch, fitted ? Math.min(tokens, ranked) : 0, device.memory.limit, weights);
    const cost = fitCost(request, tokens, perToken, heal);
    const flops = {
      distances: ranked * layers * perToken,
      fit: fitted ? Math.max(0, cost.flops - states.tokens * cost.depth * perToken) : 0,
    };
    const attention = (2 * arch.heads + 2 * arch.kvHeads) * arch.headDim;
    const memory = {
      weights,
      activations: 4 * batchTokens * ((windows ? 5 : count + 5) * hidden + 3 * intermediate + attention),
      statistics: cost.statistics,
      streams: fitted ? cost.streams : 0,
      hiddenStates: states.bytes,
    };
    return {
      summary: windows
        ? describeWindows(windows, layers)
        : `remove ${count} of ${layers} layers, where it is cheapest`,
      method: method.name,
      tokens,
      generated: written,
      batchTokens,
      memory: {
        ...memory,
        total:
          memory.weights +
          memory.activations +
          Math.max(memory.statistics + memory.streams, memory.hiddenStates),
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
