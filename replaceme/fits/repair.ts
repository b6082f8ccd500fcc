import type { Model, SpillFile, StatePlacement, WeightChanges } from '../../model/index.js';
import type { HiddenStates } from '../activations/hiddenStates.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import type { ClosedFormHealing } from '../options/healingWords.js';
import type { MethodOptions } from '../options/pruneOptions.js';
import type { PhaseClock } from '../run/phaseClock.js';
import type { RunHooks } from '../run/runHooks.js';
import type { StatisticsStore } from '../statistics/statisticsStore.js';
import type { RidgePath } from './ridgePath.js';

/** Settings of the methods; each reads those that it names (Method.reads). */
export interface RepairSettings extends Readonly<MethodOptions> {
  /** Ridge of ReplaceMe's least squares on the unnormalised Gram matrix (0: none). */
  readonly alpha: number;
  /** Closed-form healing of the layers after the cut; a repair takes "auto" for true. */
  readonly heal: ClosedFormHealing;
  /** Fits every window on the unpruned model's activations, as the original ReplaceMe program does. */
  readonly unprunedInputs?: boolean;
}

/** The inputs of a repair: the model, calibration batches and settings. */
export interface RepairContext extends RunHooks {
  readonly model: Model;
  readonly batches: readonly CalibrationBatch[];
  readonly settings: RepairSettings;
  /** Hidden states of some of these batches that an earlier pass kept. */
  readonly states?: HiddenStates;
  /** Where the hidden states of all tokens are kept (default: on the device). */
  readonly placement?: StatePlacement;
  /** Where an offloaded model spills its new weights; it needs one. */
  readonly spillFile?: SpillFile;
  /** Sums of earlier runs over these batches. */
  readonly statistics?: StatisticsStore;
  /** Measures the time of healing. */
  readonly phases?: PhaseClock;
}

/** The inputs of sums for a later repair: `batches` are some of the calibration batches. */
export interface AccumulateContext extends RepairContext {
  /** Sums of earlier rounds, over all batches. */
  readonly statistics?: StatisticsStore;
  /** Receives the sums over `batches`. */
  readonly into: StatisticsStore;
}

/** Numbers for the report: residuals, condition, iterations. */
export type RepairDetails = Readonly<Record<string, number | string>>;

/** The result of a method: new weights of the layers that stay. */
export interface Repair {
  /** Tensors in f32 or in the checkpoint's dtype. The caller disposes them. */
  readonly changes: WeightChanges;
  readonly details: RepairDetails;
  /** What a user should know about the result, in sentences. */
  readonly warnings?: readonly string[];
  /** The held-out losses of all ridges, where held-out tokens chose one. */
  readonly ridgePaths?: readonly RidgePath[];
}
