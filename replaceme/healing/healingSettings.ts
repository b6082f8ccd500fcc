import { type Device, ensure } from '../../engine/index.js';
import { type Architecture, defaultBatchTokens } from '../../model/index.js';
import {
  type HealingObjective,
  objectives,
  type TrainingOptions,
  type TrainMode,
  trainModes,
} from '../options/healOptions.js';
import type { LoopSettings } from './trainingLoop.js';

/** Unless asked for: of a transform and of the whole model those of ReplaceMe's healing (arXiv:2505.02819, table 15). */
export const LEARNING_RATES: Readonly<Record<TrainMode, number>> = {
  transform: 3e-4,
  'down-proj': 1e-4,
  full: 1e-5,
};

/** Tokens that `topLogProbabilities` can tell apart from the rest. */
const MOST_TOP = 1024;

/** A run's settings, defaults filled in. */
export interface HealingSettings extends LoopSettings {
  readonly train: TrainMode;
  readonly objective: HealingObjective;
  readonly topK: number | 'all';
}

/** How much text is read. */
export interface HealingSizes {
  readonly tokens: number;
  readonly sequenceLength: number;
  readonly heldOutTokens: number;
}

/** What is asked for, before a device is known. */
export interface AskedTraining extends TrainingOptions {
  readonly train: TrainMode;
  readonly objective: HealingObjective;
  readonly checkpointEvery?: number;
}

/** @throws RmError INVALID_ARGUMENT for a setting that cannot be. */
export function checkTraining(asked: AskedTraining): void {
  const { train, objective, steps = 300, learningRate, topK = 100 } = asked;
  ensure(
    trainModes.includes(train),
    `there is no training of '${train}'`,
    `Choose one of: ${trainModes.join(', ')}.`,
  );
  ensure(
    objectives.includes(objective),
    `there is no objective '${objective}'`,
    `Choose one of: ${objectives.join(', ')}.`,
  );
  const atLeast = (
    name: 'batchTokens' | 'microBatchTokens' | 'evaluateEvery' | 'warmup' | 'seed' | 'checkpointEvery',
    least: number,
  ) => {
    const value = asked[name] ?? least;
    ensure(
      Number.isSafeInteger(value) && value >= least,
      `${name} is ${value}`,
      `Give a whole number of ${least} or more.`,
    );
  };
  ensure(Number.isSafeInteger(steps) && steps >= 1, `steps is ${steps}`, 'Give a whole number of 1 or more.');
  atLeast('batchTokens', 2);
  atLeast('microBatchTokens', 2);
  atLeast('evaluateEvery', 1);
  atLeast('warmup', 0);
  atLeast('seed', 0);
  atLeast('checkpointEvery', 0);
  ensure(
    (asked.warmup ?? 0) < steps,
    `a warm-up of ${asked.warmup} steps leaves none of ${steps}`,
    'Give a shorter warm-up, or more steps.',
  );
  ensure(
    learningRate === undefined || (Number.isFinite(learningRate) && learningRate > 0),
    `learningRate is ${learningRate}`,
    'Give a number above 0.',
  );
  const { weightDecay = 0, clip = 1 } = asked;
  ensure(
    Number.isFinite(weightDecay) && weightDecay >= 0,
    `weightDecay is ${weightDecay}`,
    'Give a number of 0 or more.',
  );
  ensure(clip > 0, `clip is ${clip}`, 'Give a number above 0.');
  ensure(
    topK === 'all' || (Number.isSafeInteger(topK) && topK >= 1 && topK <= MOST_TOP),
    `topK is ${topK}`,
    `Give a whole number from 1 to ${MOST_TOP}, or "all".`,
  );
}

/** Defaults filled in for a device and a model. */
export function healingSettings(asked: AskedTraining, device: Device, arch: Architecture): HealingSettings {
  const { train, objective, steps = 300, weightDecay = 0, clip = 1, seed = 0, topK = 100 } = asked;
  const usual = device.info.kind === 'software' ? 1024 : 16_384;
  const batchTokens = asked.batchTokens ?? usual;
  return {
    train,
    objective,
    steps,
    learningRate: asked.learningRate ?? LEARNING_RATES[train],
    warmup: asked.warmup ?? Math.min(steps - 1, Math.ceil(steps / 20)),
    batchTokens,
    microBatchTokens: Math.min(batchTokens, asked.microBatchTokens ?? defaultBatchTokens(device, arch)),
    ...{ weightDecay, clip, seed },
    // More than there are is all of them.
    topK: topK !== 'all' && topK >= arch.vocab ? 'all' : topK,
    evaluateEvery: asked.evaluateEvery ?? Math.max(1, Math.ceil(steps / 10)),
    checkpointEvery: asked.checkpointEvery ?? 50,
  };
}
