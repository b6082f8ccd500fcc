import type { Window } from './window.js';

/** A set of windows that was tried. */
export interface WindowScores {
  readonly windows: readonly Window[];
  /** Of the unpruned model, summed over the windows: mean cosine distance, and what a linear map leaves. */
  readonly cosine: number;
  readonly residual: number;
  /** Of the repaired model on held-out tokens: mean KL(original || model) and -log p(next token), in nats. */
  readonly kl: number;
  readonly nll: number;
  /** Whether the later layers had been healed. */
  readonly healed: boolean;
}

/** Windows that a selection has measured on the unpruned model. */
export interface MeasuredWindows {
  readonly layers: number;
  /** Calibration tokens that it was measured on. */
  readonly tokens: number;
  /** By count, then by layer. */
  readonly windows: readonly MappedWindow[];
}

export interface MappedWindow extends Window {
  /** Mean cosine distance of L_i and L_{i+n}. */
  readonly cosine: number;
  /** What the best linear map leaves on held-out tokens, where the selection looks at that: see `WindowMeasure`. */
  readonly residual?: number;
  readonly unexplained?: number;
}

/** What a selection has chosen, and by which measure. */
export interface WindowChoice {
  /** In ascending order; none touches another. */
  readonly windows: readonly Window[];
  /** "request", or the measure that chose them. */
  readonly by: string;
  /** Where one window was ranked: the measure for i = 0, 1, ... */
  readonly distances?: readonly number[];
  /** Where candidates were repaired and judged: best first, those with healing before the others. */
  readonly candidates?: readonly WindowScores[];
  /** Where cosine distances were measured. */
  readonly map?: MeasuredWindows;
}
