import type { Model, SpillFile, StatePlacement, WeightChanges } from '../../model/index.js';
import type { HiddenStates } from '../activations/hiddenStates.js';
import type { MethodOptions } from '../options/pruneOptions.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import type { PhaseClock } from '../run/phaseClock.js';
import type { RunHooks } from '../run/runHooks.js';
import type { StatisticsStore } from '../statistics/statisticsStore.js';
import type { RidgePath } from './ridgePath.js';

/** Settings of the methods; each reads those that it names (Method.reads). */
export interface RepairSettings extends Readonly<MethodOptions> {
  /** Ridge of ReplaceMe's least squares on the unnormalised Gram matrix (0: none). */
  readonly alpha: number;
  /** Closed-form healing of the layers after the cut. */
  readonly heal: boolean;
  /** Fits every window on the unpruned model's activations, as the original ReplaceMe program does. */
  readonly unprunedInputs?: boolean;
}

/** What a method repairs with: the model, calibration batches and settings. */
export interface RepairContext extends RunHooks {
  readonly model: Model;
  readonly batches: readonly CalibrationBatch[];
  readonly settings: RepairSettings;
  /** Hidden states of some of these batches, where the walk before has kept them. */
  readonly states?: HiddenStates;
  /** Where hidden states of all tokens are kept (default: on the device). */
  readonly placement?: StatePlacement;
  /** Where new weights of streamed layers wait; such a model needs it. */
  readonly spillFile?: SpillFile;
  /** What earlier runs over these batches have found. */
  readonly statistics?: StatisticsStore;
  /** Is told when healing begins and ends. */
  readonly phases?: PhaseClock;
}

/** What sums for a later repair are gathered with: `batches` are some of the calibration batches. */
export interface AccumulateContext extends RepairContext {
  /** Sums over all of them, of earlier rounds. */
  readonly statistics?: StatisticsStore;
  /** Takes the sums over `batches`. */
  readonly into: StatisticsStore;
}

/** Numbers for the report: residuals, condition, iterations. */
export type RepairDetails = Readonly<Record<string, number | string>>;

/** What a method makes of the layers that stay. */
export interface Repair {
  /** Tensors in f32 or in the checkpoint's dtype. The caller disposes them. */
  readonly changes: WeightChanges;
  readonly details: RepairDetails;
  /** What a user should know of the result, in sentences. */
  readonly warnings?: readonly string[];
  /** Of ridges that were chosen by held-out tokens. */
  readonly ridgePaths?: readonly RidgePath[];
}
