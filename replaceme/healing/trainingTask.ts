import type { Tensor } from '../../engine/index.js';
import type { HeldOutScores } from '../run/trainingRecord.js';
import type { TrainingSequence } from './sequenceOrder.js';

/** A tensor that training changes. */
export interface TrainedParameter {
  readonly name: string;
  /** f32 master values, changed in place. */
  readonly values: Tensor;
  /** f32 of the same shape; the loop clears it before every step. */
  readonly gradient: Tensor;
  /** Whether weight decay applies: to matrices, not to gains and biases. */
  readonly decays: boolean;
  /** The values that weight decay pulls towards (default: zero). */
  readonly towards?: Tensor;
}

/** What the training loop trains: parameters and a loss; the loop knows nothing about models. */
export interface TrainingTask {
  readonly parameters: readonly TrainedParameter[];
  /**
   * Runs the sequences as one batch, adds the gradient of `scale` times the sum of all predictions' weighted losses, and
   * returns that loss.
   */
  addGradients(sequences: readonly TrainingSequence[], scale: number): Promise<number>;
  /** Scores on the held-out text; undefined where there is none. */
  heldOut(): Promise<HeldOutScores | undefined>;
}
