import type { Tensor } from '../../engine/index.js';
import type { Model } from '../../model/model.js';
import type { WalkOptions } from '../distance.js';
import type { HiddenStates } from '../hiddenStates.js';
import type { Window } from '../window.js';

export interface FitContext extends WalkOptions {
  readonly model: Model;
  readonly window: Window;
  /** Groups of calibration sequences, each small enough for one packed batch. */
  readonly batches: readonly (readonly (readonly number[])[])[];
  /** Hidden states of some of these batches, where the walk before has kept them. */
  readonly states?: HiddenStates;
  /** Ridge on the unnormalised Gram matrix. */
  readonly alpha: number;
}

export interface Fit {
  /** New down_proj of the kept layer, f32 [hidden, intermediate]; undefined leaves it as it is. The caller disposes it. */
  readonly down?: Tensor;
  /** New bias of that down_proj, f32 [hidden]. The caller disposes it. */
  readonly downBias?: Tensor;
  /** Numbers for the report: residuals, condition, iterations. */
  readonly details: Readonly<Record<string, number | string>>;
}

/** What takes the place of removed layers. One file per method, one line in methods/index.ts. */
export interface Method {
  readonly name: string;
  readonly summary: string;
  /** The paper it comes from. */
  readonly source: string;
  /** False where the method reads no calibration tokens. */
  readonly needsCalibration: boolean;
  fit(context: FitContext): Promise<Fit>;
}
