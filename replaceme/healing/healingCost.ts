import { elementCount } from '../../engine/index.js';
import { type Architecture, expectedTensors } from '../../model/index.js';
import { layerFlopsPerToken } from '../run/computeRate.js';
import type { HealingSettings } from './healingSettings.js';
import { heldOutStates } from './healingTask.js';

/** Device memory of healing in bytes, by what it is for. */
export interface HealingMemory {
  /** Of the model and of the teacher; what both have alike counts once. */
  readonly weights: number;
  /** Master values, gradients and two moments. */
  readonly training: number;
  /** Inputs of all layers that are differentiated, one of them computed again, and tiles of logits. */
  readonly activations: number;
  /** What the teacher makes of the held-out text. */
  readonly heldOut: number;
  readonly total: number;
}

/** Floating-point operations: of the gradients and steps; of the measures of the held-out text. */
export interface HealingFlops {
  readonly training: number;
  readonly heldOut: number;
}

/** What healing is as far as its cost depends on it. */
export interface HealingWork {
  readonly arch: Architecture;
  readonly settings: HealingSettings;
  /** Patched layers, ascending; empty where all weights are trained. */
  readonly layers: readonly number[];
  /** Layers of the teacher, where there is one, and of these, from the first, those that the model has too. */
  readonly teacherLayers: number;
  readonly sharedLayers: number;
  readonly heldOutTokens: number;
}

/** Tiles of logits, and of their gradients. */
const LOGIT_BYTES = 2 * (64 << 20);

/** Numbers that are trained. */
export function trainedNumbers({ arch, settings: { train }, layers }: HealingWork): number {
  const { tensorNames, hidden, intermediate } = arch;
  if (train === 'transform') return layers.length * hidden * hidden;
  if (train === 'full') return expectedTensors(arch).reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const biases = layers.filter(layer => tensorNames.layers[layer]!.downBias !== null).length;
  return layers.length * hidden * intermediate + biases * hidden;
}

/** Memory beside the weights. */
export function healingMemory(work: HealingWork): Omit<HealingMemory, 'weights' | 'total'> {
  const { arch, settings, layers, heldOutTokens, teacherLayers } = work;
  const { microBatchTokens: tokens, topK, train } = settings;
  const { hidden, intermediate, vocab } = arch;
  const lowest = layers[0] ?? 0;
  const attention = (2 * arch.heads + 2 * arch.kvHeads) * arch.headDim;
  const identities = train === 'transform' ? layers.length * hidden * hidden : 0;
  // The layer that is computed again holds its activations and their gradients.
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

/** Floating-point operations of all steps, and of all measures of the held-out text. */
export function healingFlops(work: HealingWork, sequenceLength: number): HealingFlops {
  const { arch, settings, layers, teacherLayers, sharedLayers, heldOutTokens } = work;
  const layer = layerFlopsPerToken(arch, sequenceLength);
  const head = 2 * arch.hidden * arch.vocab;
  const lowest = layers[0] ?? 0;
  const above = arch.layers - lowest;
  const common = Math.min(lowest, sharedLayers);
  // Forward, forward again, and the gradient of activations; that of weights too where all are trained.
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
