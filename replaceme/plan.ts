import { Device, elementCount, Scope } from '../engine/index.js';
import { matmul } from '../kernels/matmul.js';
import { type Architecture, expectedTensors } from '../model/architecture.js';
import type { LoadOptions } from '../model/model.js';
import { openCheckpoint } from '../model/modelSource.js';
import {
  choosePlacement,
  type Hindrance,
  type MemorySizes,
  type Placement,
  type PlannedMemory,
  weightSizes,
} from './memoryPlan.js';
import { givesTexts, type PruneOptions } from './pruneOptions.js';
import { calibrationSizes, checkPruneRequest, type PruneRequest } from './request.js';
import { RIDGES } from './ridgeStatistics.js';
import { type Shard, WHOLE } from './statistics/shard.js';
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
  readonly memory: PlannedMemory;
  /** Where weights and hidden states are to be. */
  readonly placement: Placement;
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
}

/** Ridges that are tried on the held-out half, and the one solve with all tokens. */
const RIDGE_SOLVES = RIDGES.length + 1;

/** A ridge regression of [inputs, outputs]. */
const ridgeFlops = (tokens: number, inputs: number, outputs: number) =>
  2 * tokens * inputs * (inputs + outputs) + RIDGE_SOLVES * inputs * inputs * (inputs / 3 + 4 * outputs);

/** What a fit computes; where the window is not known yet, at the most. */
function fitCost(
  { arch, count, windows, windowCount, method, settings }: PruneRequest,
  tokens: number,
  perToken: number,
): FitCost {
  const { hidden, intermediate, layers } = arch;
  const attended = arch.heads * arch.headDim;
  const cuts = windows?.length ?? windowCount;
  const depth = windows ? lastRemoved(windows.at(-1)!) + 1 : layers;
  const after = windows ? layers - lastRemoved(windows[0]!) - 1 : layers - count - 1;
  const healed = settings.heal ? after : 0;
  const refits = healed + (method.gathers === 'features Gram' ? cuts : 0);
  // The layer runs for o_proj, for down_proj and for its output.
  const refit =
    3 * tokens * perToken + ridgeFlops(tokens, attended, hidden) + ridgeFlops(tokens, intermediate, hidden);
  const other = {
    'outputs Gram': cuts * tokens * (perToken + 3 * hidden * hidden),
    tokens: cuts * tokens * (perToken + 6 * (settings.cosine?.epochs ?? 10) * hidden * hidden),
    'features Gram': 0,
  }[method.gathers ?? 'features Gram'];
  return { flops: tokens * (depth + healed) * perToken + refits * refit + other, depth };
}

/** How many tokens a run reads, and where its weights and hidden states are to be. */
export interface RunPlan extends MemorySizes {
  readonly sequenceLength: number;
  /** Of the tokens, those that the model writes itself. */
  readonly written: number;
  readonly placement: Placement;
  readonly memory: PlannedMemory;
}

/** As Model.load takes it. */
export const streamOf = ({ weights }: Placement): LoadOptions['stream'] =>
  weights !== 'device' && { prefetch: weights === 'streamed' };

/**
 * Decides what stays on the device, before weights or texts are read.
 *
 * @param shard the part of the calibration batches that the run goes over.
 * @throws RmError OUT_OF_MEMORY where the memory limit has no room for the run in any way.
 */
export async function planRun(
  from: string,
  options: PruneOptions,
  request: PruneRequest,
  device: Device,
  { of }: Shard = WHOLE,
): Promise<RunPlan> {
  const { arch, windows, count, selection } = request;
  const { sequenceLength, ...given } = calibrationSizes(options, device, arch);
  const copies = options.mask === undefined ? 1 : 2;
  const written = options.generate ?? 0;
  const all = copies * (written && !givesTexts(options) ? written : given.tokens + written);
  // Whole batches are divided.
  const tokens = of === 1 ? all : Math.min(all, Math.ceil(all / of) + given.batchTokens);
  const checkpoint = await openCheckpoint(from);
  try {
    const sizes: MemorySizes = {
      request,
      ...weightSizes(arch, checkpoint),
      tokens,
      batchTokens: Math.min(tokens, given.batchTokens),
      rankedTokens: windows
        ? 0
        : (selection.tokens?.({ device, layers: arch.layers, count, tokens }) ?? tokens),
      memoryLimit: device.memory.limit,
      hostStates: options.hostStates ?? 'f32',
    };
    return { ...sizes, sequenceLength, written, ...choosePlacement(sizes, hindrances(request, options)) };
  } finally {
    await checkpoint.close();
  }
}

/** What of a request needs the whole model on the device. */
function hindrances(
  { method, selection, windows }: PruneRequest,
  { report = true, generate }: PruneOptions,
): Hindrance[] {
  const found: Hindrance[] = [];
  if (!windows && !selection.layerByLayer) {
    found.push({ what: `the selection ${selection.name} runs whole models`, fix: 'Use --select cosine' });
  }
  if (method.wholeModel) {
    found.push({
      what: `the method ${method.name} reads several layers at a time`,
      fix: 'Use another --method',
    });
  }
  if (report) found.push({ what: 'the report runs whole models', fix: 'Use --no-report' });
  if (generate !== undefined) {
    found.push({ what: 'the model cannot write text then', fix: 'Leave --generate out' });
  }
  return found;
}

/**
 * Checks the request as `prune` does and estimates memory and time.
 *
 * @throws RmError as `prune` does for a wrong request or a damaged model folder.
 */
export async function planPrune(from: string, options: PruneOptions = {}): Promise<PrunePlan> {
  const request = await checkPruneRequest(from, undefined, options);
  const { method, arch, count, windows, settings } = request;
  const device = options.device ?? (await Device.open(options));
  try {
    const { layers } = arch;
    const run = await planRun(from, options, request, device);
    const { tokens, written, batchTokens, sequenceLength, weightBytes, layerBytes } = run;
    const rate = await matmulRate(device, arch, Math.min(256, batchTokens));
    const perToken = layerFlopsPerToken(arch, sequenceLength);
    const fitted = method.needsCalibration || settings.heal;
    // Of these tokens the layers below the cut need not run again.
    const states = run.memory.hiddenStates / (4 * arch.hidden * layers);
    const cost = fitCost(request, tokens, perToken);
    const flops = {
      distances: run.rankedTokens * layers * perToken,
      fit: fitted ? Math.max(0, cost.flops - states * cost.depth * perToken) : 0,
    };
    return {
      summary: windows
        ? describeWindows(windows, layers)
        : `remove ${count} of ${layers} layers, where it is cheapest`,
      method: method.name,
      tokens,
      generated: written,
      batchTokens,
      memory: run.memory,
      placement: run.placement,
      // The written model is read again for the comparison.
      bytesRead: 2 * weightBytes - count * layerBytes,
      flops,
      seconds: { distances: flops.distances / rate, fit: flops.fit / rate },
      matmulGflops: rate / 1e9,
      adapter: device.info.description,
    };
  } finally {
    if (!options.device) await device.close();
  }
}
