import type { HeldOutScores } from './trainingTask.js';

/** What a step has done. */
export interface TrainingStep {
  /** From 1. */
  readonly step: number;
  /** Of its texts before the step, in nats a prediction; null where it was not finite. */
  readonly loss: number | null;
  readonly learningRate: number;
  /** Of the gradient before clipping; null where it was not finite, and the step was skipped. */
  readonly gradientNorm: number | null;
}

/** A measure of the held-out text. */
export interface HeldOutPoint extends HeldOutScores {
  /** Steps before it. */
  readonly step: number;
}

/** How many steps changed nothing. */
export const skippedSteps = (steps: readonly TrainingStep[]): number =>
  steps.filter(({ gradientNorm }) => gradientNorm === null).length;
