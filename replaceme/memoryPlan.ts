import { formatBytes } from '../engine/format.js';
import { elementCount, RmError } from '../engine/index.js';
import { type Architecture, expectedTensors } from '../model/architecture.js';
import type { Checkpoint } from '../model/checkpoint/checkpoint.js';
import type { StateHome } from './batchTensors.js';
import { plannedStates } from './hiddenStates.js';
import { KEPT_BYTES } from './refitLayer.js';
import type { PruneRequest } from './request.js';
import { lastRemoved } from './window.js';

/** Where weights and hidden states are during a run. */
export interface Placement {
  /**
   * "device": all weights, all the time; "streamed": the layer in use and the next one on its way; "one by one": the
   * layer in use alone.
   */
  readonly weights: 'device' | 'streamed' | 'one by one';
  readonly states: StateHome;
}

/** Device memory in bytes, by what it is for; each part at its largest. */
export interface PlannedMemory {
  /** With the new weights of healed layers. */
  readonly weights: number;
  readonly activations: number;
  readonly statistics: number;
  /** Of all calibration tokens, what the original model and the pruned one give to a layer. */
  readonly streams: number;
  /** Kept from the walk that ranks windows, so that the fit need not compute them again. */
  readonly hiddenStates: number;
  /** At the step that needs most: not all parts are there at the same time. */
  readonly total: number;
}

/** What a run is as far as its memory depends on it. */
export interface MemorySizes {
  readonly request: PruneRequest;
  /** Bytes of the largest layer, and of what is no layer's, in the checkpoint. */
  readonly layerBytes: number;
  readonly outerBytes: number;
  readonly weightBytes: number;
  /** Calibration tokens at most; of these at a time; and those that the selection walks through all layers. */
  readonly tokens: number;
  readonly batchTokens: number;
  readonly rankedTokens: number;
  readonly memoryLimit: number;
  /** Number type of hidden states on the host. */
  readonly hostStates: StateHome['dtype'];
}

/** Bytes of a checkpoint's tensors as a model needs them. */
export function weightSizes(
  arch: Architecture,
  checkpoint: Checkpoint,
): Pick<MemorySizes, 'layerBytes' | 'outerBytes' | 'weightBytes'> {
  const layers = new Array<number>(arch.layers).fill(0);
  let outerBytes = 0;
  for (const { name, layer } of expectedTensors(arch)) {
    const { byteLength } = checkpoint.info(name);
    if (layer === null) outerBytes += byteLength;
    else layers[layer]! += byteLength;
  }
  const weightBytes = layers.reduce((sum, bytes) => sum + bytes, outerBytes);
  return { layerBytes: Math.max(...layers), outerBytes, weightBytes };
}

/** Numbers in one layer's tensors. */
const layerElements = (arch: Architecture): number =>
  expectedTensors(arch)
    .filter(({ layer }) => layer === 0)
    .reduce((sum, { shape }) => sum + elementCount(shape), 0);

/** What plans leave out: small tensors, and buffers that are larger than what they hold. */
const HEADROOM = 1.05;

/** G and C of two halves, the factor, the solution and a product. */
const ridgeBytes = (inputs: number, outputs: number) => 4 * inputs * (3 * inputs + 5 * outputs);

/** What a run of these sizes takes with weights and hidden states placed so. */
export function plannedMemory(sizes: MemorySizes, { weights, states }: Placement): PlannedMemory {
  const { request, layerBytes, outerBytes, weightBytes, tokens, batchTokens } = sizes;
  const { arch, method, settings, windows, windowCount, count } = request;
  const { hidden, intermediate, layers, heads, kvHeads, headDim } = arch;
  const attended = heads * headDim;
  const held = (most: number) =>
    weights === 'device'
      ? weightBytes
      : outerBytes + (weights === 'streamed' ? Math.min(most, layers) : 1) * layerBytes;
  const fits = method.needsCalibration || settings.heal;
  const { heal } = settings;
  const onDevice = states.place === 'device';
  /** Bytes of the hidden states of all calibration tokens, as far as they stay on the device. */
  const all = onDevice ? 4 * tokens * hidden : 0;

  const attention = 2 * (attended + kvHeads * headDim);
  const activations = (hiddenColumns: number, features: number) =>
    4 * batchTokens * (hiddenColumns * hidden + features * intermediate + attention);

  // Of one layer: norms, Y, queries, keys, values, what is attended to, MLP features; and its input and output, where
  // these are not among the states of all tokens.
  const passing = activations(onDevice ? 4 : 6, 1);
  // Besides M or the weighted rows, what is missing, and targets.
  const fitted = activations(onDevice ? 7 : 10, 2);

  // Selection: outputs as far back as a window reaches, of one batch or, where layers are streamed, of all.
  const reach = windows ? 0 : count / windowCount + 1;
  const rankedTokens = weights === 'device' ? Math.min(batchTokens, sizes.rankedTokens) : sizes.rankedTokens;
  const ranked = onDevice ? 4 * rankedTokens * reach * hidden : 0;
  const hiddenStates =
    fits && weights === 'device'
      ? plannedStates(arch, Math.min(tokens, sizes.rankedTokens), sizes.memoryLimit, weightBytes).bytes
      : 0;
  const selecting = windows ? 0 : held(2) + passing + ranked + hiddenStates;

  const refits = heal || method.gathers === 'features Gram';
  const inner = states.keepsInner && onDevice;
  const kept = inner ? 4 * tokens * attended + all + Math.min(KEPT_BYTES, 4 * tokens * intermediate) : 0;
  const other = {
    // The solve, or T and the sums beside both f32 copies of W_down.
    'outputs Gram': 4 * Math.max(12 * hidden * hidden, 5 * hidden * hidden + 2 * intermediate * hidden),
    // M, what it is compared with, and both once more in the order of an epoch.
    tokens: 4 * 3 * tokens * hidden + 4 * 6 * hidden * hidden,
    'features Gram': 0,
  }[method.gathers ?? 'features Gram'];
  const refitBytes = Math.max(ridgeBytes(attended, hidden), ridgeBytes(intermediate, hidden));
  const statistics = fits ? Math.max(refits ? refitBytes + kept : 0, other) : 0;
  const healed = !heal ? 0 : windows ? layers - lastRemoved(windows[0]!) - 1 : layers - count - 1;
  /** New o_proj and down_proj of the layers that have been healed. */
  const projections = (hidden * (attended + intermediate)) / layerElements(arch);
  const fresh = healed * projections * layerBytes;
  const streams = fits ? (heal && healed > 0 ? 3 : 2) * all : 0;
  const walking = fits ? held(2) + passing + 2 * all : held(2);
  // Healing goes on to the next layer, a fit alone stays where it is.
  const fitting = fits ? held(heal ? 2 : 1) + fitted + statistics + streams + fresh : 0;
  return {
    weights: held(2) + fresh,
    activations: Math.max(passing + ranked, fits ? fitted : 0),
    statistics,
    streams,
    hiddenStates,
    total: Math.max(selecting, walking, fitting),
  };
}

/** From where most is possible and fast to where least memory is needed. */
const placements = (dtype: StateHome['dtype']): Placement[] =>
  (['device', 'streamed', 'one by one'] as const).flatMap(weights =>
    [
      { place: 'device', dtype: 'f32', keepsInner: true } as const,
      { place: 'device', dtype: 'f32', keepsInner: false } as const,
      { place: 'host', dtype, keepsInner: false } as const,
    ].map(states => ({ weights, states })),
  );

/** What keeps a request from running layer by layer: the words for it, and what to do. */
export interface Hindrance {
  readonly what: string;
  readonly fix: string;
}

/**
 * The first placement that fits: hidden states that are kept for speed are given up first, then all hidden states go to
 * the host, then layers are streamed.
 *
 * @param hindrances what rules streaming out.
 * @throws RmError OUT_OF_MEMORY where none fits, with the option that would make it fit.
 */
export function choosePlacement(
  sizes: MemorySizes,
  hindrances: readonly Hindrance[],
): { placement: Placement; memory: PlannedMemory } {
  const { memoryLimit, hostStates } = sizes;
  const planned = (of: MemorySizes) =>
    placements(hostStates).map(placement => ({ placement, memory: plannedMemory(of, placement) }));
  const fitting = planned(sizes).find(({ memory }) => HEADROOM * memory.total <= memoryLimit);
  if (fitting && (fitting.placement.weights === 'device' || hindrances.length === 0)) return fitting;
  const least = (of: MemorySizes, layers: boolean) =>
    Math.min(
      ...planned(of)
        .filter(({ placement }) => layers || placement.weights === 'device')
        .map(({ memory }) => memory.total),
    );
  const limit = formatBytes(memoryLimit);
  if (fitting) {
    throw new RmError(
      'OUT_OF_MEMORY',
      `the run needs ${formatBytes(least(sizes, false))} with all weights on the device, ${limit} are allowed; layer by layer it needs ${formatBytes(fitting.memory.total)}, but ${hindrances.map(({ what }) => what).join(' and ')}`,
      `${hindrances.map(({ fix }) => fix).join(', ')}; or raise --memory-limit.`,
    );
  }
  const needed = least(sizes, hindrances.length === 0);
  throw new RmError(
    'OUT_OF_MEMORY',
    `the run needs ${formatBytes(needed)} of device memory at the least, ${limit} are allowed`,
    `${remedy()}Raise --memory-limit to ${formatBytes(HEADROOM * needed)}, or use a device with more memory.`,
  );

  /** An option that would make it fit. */
  function remedy(): string {
    for (let batchTokens = sizes.batchTokens / 2; batchTokens >= 64; batchTokens /= 2) {
      const fewer = { ...sizes, batchTokens: Math.floor(batchTokens) };
      if (least(fewer, hindrances.length === 0) * HEADROOM <= memoryLimit) {
        return `Use --batch-tokens ${fewer.batchTokens}. Or: `;
      }
    }
    return '';
  }
}
