import { declare, setting, type Values } from './setting.js';
import { notNegative, oneOf, positive, type ValueType, wholeNumber } from './valueTypes.js';

/**
 * What healing by gradient changes. `transform`: the map T [hidden, hidden] of the MLP output of each patched layer, which
 * begins as the identity and is folded into down_proj; `down-proj`: down_proj of these layers itself; `full`: all weights.
 */
export type TrainMode = 'transform' | 'down-proj' | 'full';
export const trainModes: readonly TrainMode[] = ['transform', 'down-proj', 'full'];

/** What healing by gradient makes smaller: -log p of the next token, or the KL divergence from a teacher. */
export type HealingObjective = 'lm' | 'kl';

/** Tokens that `topLogProbabilities` can tell apart from the rest. */
const MOST_TOP = 1024;

/** 1 to 1024, or "all". */
const tokenCount = wholeNumber(1, MOST_TOP);
const topTokens: ValueType<number | 'all'> = {
  needs: `${tokenCount.needs}, or "all"`,
  accepts: value => value === 'all' || tokenCount.accepts(value),
  read: text => (text === 'all' ? text : tokenCount.read(text)),
  schema: { anyOf: [{ type: 'number' }, { type: 'string', const: 'all' }] },
};

/** What is trained, and towards what. */
export const objectiveSettings = declare('What is trained:', {
  train: setting(oneOf(...trainModes), {
    takes: 'what',
    default: 'transform',
    help: 'transform, down-proj or full',
    details:
      'transform: the linear map of the MLP output before the cut, folded into down_proj at the end; down-proj: that matrix itself; full: all weights.',
  }),
  objective: setting(oneOf('lm', 'kl'), {
    takes: 'what',
    otherwise: 'kl with a teacher, else lm',
    help: 'kl or lm',
    details: "kl: the KL divergence from the teacher's predictions; lm: -log p of the next token.",
  }),
});

/** Settings of training that `heal` and `prune` share. */
export const trainingSettings = declare('Steps:', {
  steps: setting(wholeNumber(1), { takes: 'count', default: 300, help: 'training steps' }),
  learningRate: setting(positive, {
    flag: 'lr',
    takes: 'rate',
    otherwise: '3e-4, down-proj 1e-4, full 1e-5',
    help: 'peak learning rate',
  }),
  batchTokens: setting(wholeNumber(2), {
    takes: 'count',
    otherwise: 'by the device',
    help: 'tokens per step',
    details: '16,384 on a GPU, 1,024 on a software adapter.',
  }),
  microBatchTokens: setting(wholeNumber(2), {
    takes: 'count',
    otherwise: 'by the device',
    help: 'tokens computed at a time; gradients accumulate',
  }),
  warmup: setting(wholeNumber(0), {
    takes: 'count',
    otherwise: 'a twentieth of all steps',
    help: 'steps until the learning rate peaks',
  }),
  weightDecay: setting(notNegative, {
    takes: 'share',
    default: 0,
    help: 'weight decay of AdamW',
    details:
      'Every step takes learning rate x this share from matrices; a transform decays towards the identity, gains and biases do not decay.',
  }),
  clip: setting(positive, {
    takes: 'number',
    default: 1,
    help: 'longer gradients are scaled to this norm',
    details: 'The Euclidean norm of all parameters together.',
  }),
  seed: setting(wholeNumber(0), { takes: 'number', default: 0, help: 'seed of the order of the texts' }),
  topK: setting(topTokens, {
    takes: 'count',
    default: 100,
    help: "compare so many of the teacher's most likely tokens one by one and the rest as one; or all",
  }),
  evaluateEvery: setting(wholeNumber(1), {
    flag: 'eval-every',
    takes: 'count',
    otherwise: 'a tenth of all steps',
    help: 'steps between measurements of the held-out text',
  }),
});

/** Settings of training that `heal` and `prune` share; docs/options.md describes each. */
export interface TrainingOptions extends Values<typeof trainingSettings> {}
