import { elementCount } from '../../engine/index.js';
import { type Architecture, expectedTensors } from '../../model/index.js';
import { layerFlopsPerToken } from '../run/computeRate.js';
import type { HealingSettings } from './healingSettings.js';
import { heldOutStates } from './healingTask.js';

/** Device memory of healing in bytes, by purpose. */
export interface HealingMemory {
  /** The model and the teacher; shared tensors count once. */
  readonly weights: number;
  /** Master values, gradients and two moments. */
  readonly training: number;
  /** Inputs of all differentiated layers, the layer that is being recomputed, and tiles of logits. */
  readonly activations: number;
  /** The teacher's states for the held-out text. */
  readonly heldOut: number;
  readonly total: number;
}

/** Floating-point operations of training, and of measuring the held-out text. */
export interface HealingFlops {
  readonly training: number;
  readonly heldOut: number;
}

/** Everything that the cost of healing depends on. */
export interface HealingWork {
  readonly arch: Architecture;
  readonly settings: HealingSettings;
  /** Patched layers, ascending; empty when all weights are trained. */
  readonly layers: readonly number[];
  /** Layers of the teacher (0: none), and how many of the first ones the model shares. */
  readonly teacherLayers: number;
  readonly sharedLayers: number;
  readonly heldOutTokens: number;
}

/** Bytes of the tiles of logits and of their gradients. */
const LOGIT_BYTES = 2 * (64 << 20);

/** Number of trained parameters. */
export function trainedNumbers({ arch, settings: { train }, layers }: HealingWork): number {
  const { tensorNames, hidden, intermediate } = arch;
  if (train === 'transform') return layers.length * hidden * hidden;
  if (train === 'full') return expectedTensors(arch).reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const biases = layers.filter(layer => tensorNames.layers[layer]!.downBias !== null).length;
  return layers.length * hidden * intermediate + biases * hidden;
}

/** Memory of healing, besides the weights. */
export function healingMemory(work: HealingWork): Omit<HealingMemory, 'weights' | 'total'> {
  const { arch, settings, layers, heldOutTokens, teacherLayers } = work;
  const { microBatchTokens: tokens, topK, train } = settings;
  const { hidden, intermediate, vocab } = arch;
  const lowest = layers[0] ?? 0;
  const attention = (2 * arch.heads + 2 * arch.kvHeads) * arch.headDim;
  const identities = train === 'transform' ? layers.length * hidden * hidden : 0;
  // The recomputed layer has its activations and their gradients in memory.
  const perToken =
    (arch.layers - lowest + 4) * hidden +
    2 * (attention + 3 * intermediate) +
    (topK === 'all' ? 0 : 3 * topK);
  return {
    training: 4 * (4 * trainedNumbers(work) + identities),
    activations: 4 * tokens * perToken + Math.min(LOGIT_BYTES, 2 * 4 * tokens * vocab),
    heldOut: teacherLayers > 0 ? heldOutStates(arch, heldOutTokens) : 0,
  };
}

/** Floating-point operations of all steps, and of all measurements of the held-out text. */
export function healingFlops(work: HealingWork, sequenceLength: number): HealingFlops {
  const { arch, settings, layers, teacherLayers, sharedLayers, heldOutTokens } = work;
  const layer = layerFlopsPerToken(arch, sequenceLength);
  const head = 2 * arch.hidden * arch.vocab;
  const lowest = layers[0] ?? 0;
  const above = arch.layers - lowest;
  const common = Math.min(lowest, sharedLayers);
  // Forward, recomputation, and the gradient of activations; also the gradient of weights when all are trained.
  const passes = settings.train === 'full' ? 4 : 3;
  const taught = settings.objective === 'kl' ? (teacherLayers - common) * layer + head : 0;
  const perToken = lowest * layer + passes * above * layer + 3 * head + taught;
  const measures = 1 + Math.ceil(settings.steps / settings.evaluateEvery);
  const reference = teacherLayers > 0 ? head : 0;
  return {
    training: settings.steps * settings.batchTokens * perToken,
    heldOut: heldOutTokens * (measures * (arch.layers * layer + head + reference) + teacherLayers * layer),
  };
}
