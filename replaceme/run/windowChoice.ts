import type { Window } from './window.js';

/** The numbers of layers that were tried for a budget, and what they cost on held-out text. */
export interface LayerSearch {
  readonly budget: { readonly maxKl?: number; readonly keepTop1?: number };
  /** Held-out tokens. */
  readonly tokens: number;
  /** By number of layers. */
  readonly trials: readonly {
    readonly layers: number;
    /** Mean KL to the original in nats, and the share of places with the same most likely token. */
    readonly kl: number;
    readonly top1: number;
  }[];
}

/** A candidate set of windows and its scores. */
export interface WindowScores {
  readonly windows: readonly Window[];
  /** Sums over the windows on the unpruned model: mean cosine distance, and the residual that a linear map leaves. */
  readonly cosine: number;
  readonly residual: number;
  /** The repaired model on held-out tokens: mean KL(original || model) and -log p(next token), in nats. */
  readonly kl: number;
  readonly nll: number;
  /** How many held-out tokens those were: finalists were judged by more than the others. */
  readonly tokens: number;
  /** Whether the later layers were healed. */
  readonly healed: boolean;
}

/** Windows that a selection measured on the unpruned model. */
export interface MeasuredWindows {
  /** Layers of the model. */
  readonly layers: number;
  /** Calibration tokens that they were measured on. */
  readonly tokens: number;
  /** By count, then by layer. */
  readonly windows: readonly MappedWindow[];
}

export interface MappedWindow extends Window {
  /** Mean cosine distance of L_i and L_{i+n}. */
  readonly cosine: number;
  /** The error that the best linear map leaves on held-out tokens, where the selection measures it: see `WindowMeasure`. */
  readonly residual?: number;
  readonly unexplained?: number;
}

/** The windows that a selection chose, and how. */
export interface WindowChoice {
  /** Ascending; no two are adjacent. */
  readonly windows: readonly Window[];
  /** "request", or the measure that chose them. */
  readonly by: string;
  /** When single windows were ranked: the measure for i = 0, 1, ... */
  readonly distances?: readonly number[];
  /** When candidates were repaired and judged: best first, finalists before the others. */
  readonly candidates?: readonly WindowScores[];
  /** When a budget decided how many layers go. */
  readonly search?: LayerSearch;
  /** When cosine distances were measured. */
  readonly map?: MeasuredWindows;
}
