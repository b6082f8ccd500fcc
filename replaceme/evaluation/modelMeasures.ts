import type { PositionLoss } from './positionLoss.js';

/** A model's scores on one file. */
export interface FileScores {
  readonly file: string;
  /** Perplexity. */
  readonly ppl: number;
  /** Mean KL(dense || model) in nats, and the share of positions where both have the same most likely token. */
  readonly kl: number;
  readonly top1: number;
}

/** Measures of a model in memory. */
export interface Measures {
  readonly eval: readonly FileScores[];
  readonly parameters: number;
  /** Size of the weights in the checkpoint's dtypes. */
  readonly bytes: number;
  /** Speed of the forward pass of all layers over one batch, without the output head. */
  readonly tokensPerSecond: number;
  /** Mean loss by position, over all files. */
  readonly lossByPosition: readonly PositionLoss[];
}
