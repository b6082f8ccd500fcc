import type { StatePlacement } from '../../model/index.js';
import type { HiddenStates } from '../activations/hiddenStates.js';
import type { RunHooks } from '../run/runHooks.js';
import type { Window } from '../run/window.js';

/** What is known of a window without pruning. */
export interface WindowMeasure extends Window {
  /** Mean cosine distance of L_i and L_{i+n}, all tokens alike (ReplaceMe Eq. 4). */
  readonly cosine: number;
  /** |L_i + M_i Delta - L_j|² / |L_j|² on held-out tokens: what the best linear map on the MLP's output leaves. */
  readonly residual: number;
  /** The same over |L_i - L_j|²: 1 where no map helps. */
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
  /** Is given the outputs of all layers, as far as it has room. */
  states?: HiddenStates;
  /** Random projections that stand for all columns of the targets; `hidden` or more: the columns themselves. */
  projections?: number;
  /** Bytes for the sums; where they do not suffice there are several walks over the tokens. */
  room?: number;
  /** Of a streamed model: where outputs wait for the other end of their windows (default: on the device). */
  placement?: StatePlacement;
}
