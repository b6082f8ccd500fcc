import { formatBytes } from '../engine/format.js';
import { elementCount, RmError } from '../engine/index.js';
import { sizeClass } from '../engine/memory.js';
import { STAGING_BYTES } from '../engine/transfer.js';
import { type Architecture, expectedTensors } from '../model/architecture.js';
import type { StateHome } from '../model/batchTensors.js';
import { type Checkpoint, deviceBytes } from '../model/checkpoint/checkpoint.js';
import { rotationRows } from '../model/rotationTable.js';
import { type HealingWork, healingMemory } from './healing/healingCost.js';
import { plannedStates } from './hiddenStates.js';
import { KEPT_BYTES } from './refitLayer.js';
import type { PruneRequest } from './request.js';
import { isEarly, lastRemoved } from './window.js';

/** Where weights and hidden states are during a run. */
export interface Placement {
  /**
   * "device": all weights, all the time; "streamed": the layer in use and the next one on its way; "one by one": the
   * layer in use alone.
   */
  readonly weights: 'device' | 'streamed' | 'one by one';
  readonly states: StateHome;
}

/** Memory in bytes, by what it is for; each part at its largest. */
export interface PlannedMemory {
  /** With the new weights of healed layers, as far as they stay on the device. */
  readonly weights: number;
  readonly activations: number;
  readonly statistics: number;
  /** Of all calibration tokens, what the original model and the pruned one give to a layer. */
  readonly streams: number;
  /** Kept from the walk that ranks windows, so that the fit need not compute them again. */
  readonly hiddenStates: number;
  /** Of healing by gradient: what is trained, its gradients and moments, activations, held-out states. */
  readonly healing?: number;
  /** Of the device, at the step that needs most: not all parts are there at the same time. */
  readonly total: number;
  /** Of the host, hidden states that wait there for their turn. */
  readonly host: number;
  /** Of the host, on the way to the device: a piece of a tensor that is read, and what the driver copies. */
  readonly staging: number;
  /** Of the disk of the output, new weights of streamed layers that wait there for their turn. */
  readonly disk: number;
}

/** Bytes of a model's weights on the device. */
export interface WeightSizes {
  /** Of the largest layer, and of what is no layer's. */
  readonly layerBytes: number;
  readonly outerBytes: number;
  readonly weightBytes: number;
}

/** What a run is as far as its memory depends on it. */
export interface MemorySizes extends WeightSizes {
  readonly request: PruneRequest;
  /** Calibration tokens at most; of these at a time; and those that the selection walks through all layers. */
  readonly tokens: number;
  readonly batchTokens: number;
  readonly rankedTokens: number;
  readonly memoryLimit: number;
  /** Healing by gradient, where it is asked for. */
  readonly healing?: HealingWork;
  /** Number type of hidden states on the host. */
  readonly hostStates: StateHome['dtype'];
  /** Whether models are measured for a report. */
  readonly report: boolean;
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
const layerElements = (arch: Architecture): number =>
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

/** kernels/solveSpd: columns that estimate errors, and tensors of as many columns. */
const PROBES = 32;
const PROBE_TENSORS = 14;

/** What a fit holds while it goes over the tokens, and what it needs besides when it solves. */
interface FitBytes {
  readonly sums: number;
  readonly solve: number;
}

/** G and C of two halves, in 48 bits twice; then the factor, the solution and a product. */
function ridgeBytes(inputs: number, outputs: number, words: 1 | 2 = 1): FitBytes {
  const [gram, cross] = [sizeClass(4 * inputs * inputs), sizeClass(4 * inputs * outputs)];
  return { sums: 2 * words * (gram + cross), solve: gram + 3 * cross };
}

/** Columns of a tile of logits in which models are compared, at the most. */
const LOGIT_COLUMNS = 4096;

/** What a run of these sizes takes with weights and hidden states placed so. */
export function plannedMemory(sizes: MemorySizes, { weights, states }: Placement): PlannedMemory {
  const { request, layerBytes, weightBytes, tokens, batchTokens, report } = sizes;
  const { arch, method, settings, windows, windowCount, count } = request;
  const { hidden, intermediate, layers, heads, headDim } = arch;
  const attended = heads * headDim;
  const held = heldBytes(sizes, weights, layers);
  const fits = method.needsCalibration || settings.heal;
  const { heal } = settings;
  const onDevice = states.place === 'device';
  /** Bytes of the hidden states of all calibration tokens, as far as they stay on the device. */
  const all = onDevice ? 4 * tokens * hidden : 0;

  const activations = (hiddenColumns: number, features: number) =>
    activationBytes(arch, batchTokens, hiddenColumns, features);

  // Of one layer: norms, Y, queries, keys, values, what is attended to, MLP features; and its input and output, where
  // these are not among the states of all tokens.
  const passing = activations(onDevice ? 4 : 6, 1);
  // Besides M or the weighted rows, what is missing, and targets.
  const fitted = activations(onDevice ? 6 : 8, 2);

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
  const kept =
    refits && inner ? 4 * tokens * attended + all + Math.min(KEPT_BYTES, 4 * tokens * intermediate) : 0;
  const square = sizeClass(4 * hidden * hidden);
  // Of several fits after each other the one that needs most.
  const cut: FitBytes[] = [];
  // The sums go before both f32 copies of W_down come.
  if (method.gathers === 'outputs Gram') {
    // Right-hand side, factor and solution in 48 bits, and what estimates the error of the solution.
    const probes = PROBE_TENSORS * sizeClass(4 * PROBES * hidden);
    const fold = square + 2 * sizeClass(4 * hidden * intermediate);
    cut.push({ sums: 4 * square, solve: Math.max(6 * square + probes, fold - 4 * square) });
  }
  // M, what it is compared with, and both once more in the order of an epoch.
  if (method.gathers === 'tokens') cut.push({ sums: 4 * 3 * tokens * hidden, solve: 6 * square });
  const down = ridgeBytes(intermediate, hidden);
  if (method.gathers === 'features Gram') {
    const stepping = settings.attentionStep ?? (windows && isEarly(windows, layers) ? 0 : undefined);
    cut.push(...(stepping === 0 ? [] : [ridgeBytes(attended, hidden, 2)]), down);
  }
  const healing = heal ? [ridgeBytes(attended, hidden), down] : [];
  const most = (of: (bytes: FitBytes) => number, fit: readonly FitBytes[]) => Math.max(0, ...fit.map(of));
  const statistics = most(({ sums, solve }) => sums + solve, [...cut, ...healing]) + kept;
  const working = (fit: readonly FitBytes[]) =>
    most(({ sums, solve }) => sums + Math.max(solve, fitted), fit) + (fit.length > 0 ? kept : 0);
  const healed = !heal ? 0 : windows ? layers - lastRemoved(windows[0]!) - 1 : layers - count - 1;
  /** New o_proj and down_proj of a layer; of streamed ones those that are not in use wait on the disk. */
  const projections = (hidden * (attended + intermediate) * layerBytes) / layerElements(arch);
  const stays = weights === 'device' ? healed : 1;
  const fresh = heal ? stays * projections : 0;
  const streams = fits ? (heal && healed > 0 ? 3 : 2) * all : 0;
  const walking = fits ? held(2) + passing + 2 * all : held(2);
  // Healing goes on to the next layer, a fit alone stays where it is.
  const fitting = Math.max(
    cut.length > 0 ? held(1) + working(cut) + 2 * all : 0,
    healed > 0 ? held(2) + working(healing) + 3 * all + fresh : 0,
  );
  const scored = 4 * batchTokens * (4 * hidden + 2 * Math.min(LOGIT_COLUMNS, arch.vocab));
  const changed = weights === 'device' ? fresh : projections;
  const evaluating = report ? held(2) + changed + Math.max(passing, scored) : 0;
  const waiting = onDevice ? 0 : (states.dtype === 'f32' ? 4 : 2) * tokens * hidden;
  const training = sizes.healing && healingMemory(sizes.healing);
  const trained = training && training.training + training.activations + training.heldOut;
  return {
    weights: held(2) + fresh,
    activations: Math.max(passing + ranked, fits ? fitted : 0),
    statistics,
    streams,
    hiddenStates,
    ...(trained !== undefined && { healing: trained }),
    total: Math.max(
      selecting,
      walking,
      fitting,
      evaluating,
      trained === undefined ? 0 : held(2) + fresh + trained,
    ),
    host: waiting * Math.max(reach, !fits ? 0 : heal && healed > 0 ? 3 : 2),
    staging: STAGING_BYTES,
    disk: weights === 'device' || !fits ? 0 : (healed + 1) * projections,
  };
}

/** Fewer tokens at a time are not proposed. */
const LEAST_BATCH = 64;

/** From where most is possible and fast to where least memory is needed. */
export const placements = (dtype: StateHome['dtype']): Placement[] =>
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
  const allowed = hindrances.length === 0;
  const needed = least(sizes, allowed);
  const words = hindrances.map(({ what }) => what).join(' and ');
  throw new RmError(
    'OUT_OF_MEMORY',
    allowed
      ? `the run needs ${formatBytes(needed)} of device memory at the least, ${limit} are allowed`
      : `the run needs ${formatBytes(needed)} with all weights on the device, ${limit} are allowed; layer by layer it needs ${formatBytes(least(sizes, true))}, but ${words}`,
    [...remedies(), `raise --memory-limit to ${formatBytes(HEADROOM * needed)}${withLess()}`]
      .join('; or ')
      .replace(/^r/, 'R')
      .concat(', or use a device with more memory.'),
  );

  /** Tokens at a time with which it would fit, `sizes.batchTokens` at the most. */
  function fittingBatch(layers: boolean): number | undefined {
    const { batchTokens: usual } = sizes;
    for (let batchTokens = usual; batchTokens === usual || batchTokens >= LEAST_BATCH; ) {
      if (least({ ...sizes, batchTokens }, layers) * HEADROOM <= memoryLimit) return batchTokens;
      batchTokens = Math.floor(batchTokens / 2);
    }
    return undefined;
  }

  /** Options that would make it fit. */
  function remedies(): string[] {
    const found: string[] = [];
    const batch = fittingBatch(allowed);
    if (batch !== undefined) found.push(`Use --batch-tokens ${batch}`);
    const streamed = allowed ? undefined : fittingBatch(true);
    if (streamed !== undefined) {
      const less = streamed < sizes.batchTokens ? `, with --batch-tokens ${streamed}` : '';
      found.push(`${hindrances.map(({ fix }) => fix).join(', ')}${less}`);
    }
    return found;
  }

  /** What the limit may be with fewer tokens at a time, where that alone does not suffice. */
  function withLess(): string {
    const batchTokens = Math.min(LEAST_BATCH, sizes.batchTokens);
    const less = HEADROOM * least({ ...sizes, batchTokens }, allowed);
    return less > memoryLimit && less < 0.9 * HEADROOM * needed
      ? ` (${formatBytes(less)} with --batch-tokens ${batchTokens})`
      : '';
  }
}
