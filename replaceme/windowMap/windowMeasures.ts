import type { StatePlacement } from '../../model/index.js';
import type { HiddenStates } from '../activations/hiddenStates.js';
import type { RunHooks } from '../run/runHooks.js';
import type { Window } from '../run/window.js';

/** Measures of a window on the unpruned model. */
export interface WindowMeasure extends Window {
  /** Mean cosine distance of L_i and L_{i+n}, all tokens alike (ReplaceMe Eq. 4). */
  readonly cosine: number;
  /** |L_i + M_i Delta - L_j|² / |L_j|² on held-out tokens: the error that the best linear map of the MLP output leaves. */
  readonly residual: number;
  /** The same error over |L_i - L_j|²: 1 where no map helps. */
  readonly unexplained: number;
}

/** Measures of all windows of a model. */
export interface WindowMap {
  readonly layers: number;
  readonly tokens: number;
  /** By count, then by layer. */
  readonly windows: readonly WindowMeasure[];
}

export interface WindowMapOptions extends RunHooks {
  /** Removed layers of the longest windows (default: all but one of the model's). */
  longest?: number;
  /** Receives as many layer outputs as it has room for. */
  states?: HiddenStates;
  /** Random projections that replace the columns of the targets; `hidden` or more: the columns themselves. */
  projections?: number;
  /** Bytes for the sums; where they are too few, several passes over the tokens follow each other. */
  room?: number;
  /** For an offloaded model: where outputs stay until the end of their windows (default: on the device). */
  placement?: StatePlacement;
}
