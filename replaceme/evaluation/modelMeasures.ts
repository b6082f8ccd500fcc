import type { PositionLoss } from './positionLoss.js';

/** How a model does on one file. */
export interface FileScores {
  readonly file: string;
  /** Perplexity. */
  readonly ppl: number;
  /** Mean KL(dense || model) in nats, and the share of places where both have the same most likely token. */
  readonly kl: number;
  readonly top1: number;
}

/** What is measured of a model in memory. */
export interface Measures {
  readonly eval: readonly FileScores[];
  readonly parameters: number;
  /** Of the weights, in the checkpoint's dtypes. */
  readonly bytes: number;
  /** Of the forward pass of all layers over one batch, without the output head. */
  readonly tokensPerSecond: number;
  /** Over all files. */
  readonly lossByPosition: readonly PositionLoss[];
}
