import type { Tensor } from '../../engine/index.js';
import type { TrainingSequence } from './sequenceOrder.js';

/** Numbers that training changes. */
export interface TrainedParameter {
  readonly name: string;
  /** f32 master values, changed in place. */
  readonly values: Tensor;
  /** f32 of the same shape; the loop clears it before every step. */
  readonly gradient: Tensor;
  /** Whether weight decay pulls at it: at matrices, not at gains and biases. */
  readonly decays: boolean;
  /** What weight decay pulls it towards (default: zero). */
  readonly towards?: Tensor;
}

/** How far a model is from what it should be, on text that it is not trained on. */
export interface HeldOutScores {
  /** Mean -log p of the next token, nats. */
  readonly nll: number;
  /** Mean KL(teacher || model), nats, where there is a teacher. */
  readonly kl?: number;
}

/** What the training loop trains: it knows of parameters and of a loss, not of models. */
export interface TrainingTask {
  readonly parameters: readonly TrainedParameter[];
  /**
   * Adds the gradient of `scale` times the sum of the weighted losses of all predictions in these sequences, which run
   * side by side, and returns that loss.
   */
  addGradients(sequences: readonly TrainingSequence[], scale: number): Promise<number>;
  /** Undefined where there is no held-out text. */
  heldOut(): Promise<HeldOutScores | undefined>;
}
