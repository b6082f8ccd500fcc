/** The record of one training step. */
export interface TrainingStep {
  /** From 1. */
  readonly step: number;
  /** Loss on the step's texts before its update, in nats per prediction; null where it was not finite. */
  readonly loss: number | null;
  readonly learningRate: number;
  /** Norm of the gradient before clipping; null where it was not finite, so that the step was skipped. */
  readonly gradientNorm: number | null;
}

/** A model's scores on held-out text. */
export interface HeldOutScores {
  /** Mean -log p of the next token, nats. */
  readonly nll: number;
  /** Mean KL(teacher || model), nats, where there is a teacher. */
  readonly kl?: number;
}

/** Scores on the held-out text at one point of a run. */
export interface HeldOutPoint extends HeldOutScores {
  /** Number of steps before the measurement. */
  readonly step: number;
}

/** Number of steps that changed nothing. */
export const skippedSteps = (steps: readonly TrainingStep[]): number =>
  steps.filter(({ gradientNorm }) => gradientNorm === null).length;
