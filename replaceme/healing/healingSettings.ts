import { type DeviceFacts, ensure } from '../../engine/index.js';
import { type Architecture, defaultBatchTokens } from '../../model/index.js';
import { healingRunSettings } from '../options/healSettings.js';
import { checkValues, listed } from '../options/setting.js';
import {
  type HealingObjective,
  objectiveSettings,
  type TrainingOptions,
  type TrainMode,
  trainingSettings,
} from '../options/trainingSettings.js';
import type { LoopSettings } from './trainingLoop.js';

/** Default learning rates; `transform` and `full` as in ReplaceMe's healing (arXiv:2505.02819, table 15). */
const LEARNING_RATES: Readonly<Record<TrainMode, number>> = {
  transform: 3e-4,
  'down-proj': 1e-4,
  full: 1e-5,
};

/** A run's settings, with defaults filled in. */
export interface HealingSettings extends LoopSettings {
  readonly train: TrainMode;
  readonly objective: HealingObjective;
  readonly topK: number | 'all';
}

/** How much text to read. */
export interface HealingSizes {
  readonly tokens: number;
  readonly sequenceLength: number;
  readonly heldOutTokens: number;
}

/** Requested settings, before the device is known. */
export interface TrainingRequest extends TrainingOptions {
  readonly train: TrainMode;
  readonly objective: HealingObjective;
  readonly checkpointEvery?: number;
}

/** @throws RmError INVALID_ARGUMENT for a setting out of range, or two that disagree. */
export function checkTraining(training: TrainingRequest): void {
  checkValues(listed(objectiveSettings, trainingSettings), training);
  const { steps = trainingSettings.steps.default, warmup = 0 } = training;
  ensure(
    warmup < steps,
    `a warm-up of ${warmup} steps leaves no step of ${steps}`,
    'Give a shorter warm-up, or more steps.',
  );
}

/** Fills in defaults for a device and a model. */
export function healingSettings(
  training: TrainingRequest,
  device: DeviceFacts,
  arch: Architecture,
): HealingSettings {
  const {
    train,
    objective,
    steps = trainingSettings.steps.default,
    batchTokens = device.info.kind === 'software' ? 1024 : 16_384,
    weightDecay = trainingSettings.weightDecay.default,
    clip = trainingSettings.clip.default,
    seed = trainingSettings.seed.default,
    topK = trainingSettings.topK.default,
  } = training;
  return {
    train,
    objective,
    steps,
    learningRate: training.learningRate ?? LEARNING_RATES[train],
    warmup: training.warmup ?? Math.min(steps - 1, Math.ceil(steps / 20)),
    batchTokens,
    microBatchTokens: Math.min(batchTokens, training.microBatchTokens ?? defaultBatchTokens(device, arch)),
    ...{ weightDecay, clip, seed },
    // As many as the vocabulary has means all.
    topK: topK !== 'all' && topK >= arch.vocab ? 'all' : topK,
    evaluateEvery: training.evaluateEvery ?? Math.max(1, Math.ceil(steps / 10)),
    checkpointEvery: training.checkpointEvery ?? healingRunSettings.checkpointEvery.default,
  };
}
