import type { Model } from '../../model/index.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import type { Calibration } from '../calibration/readCalibration.js';
import type { PruneEvaluations, PruneOutcome } from '../evaluation/pruneEvaluation.js';
import type { Recipe } from '../run/recipe.js';
import type { ReportExtent } from '../run/reportExtent.js';
import type { StatisticsFile } from '../statistics/statisticsFile.js';

/** What `prune` reads before it loads the model, so that a wrong file fails early. */
export interface PruneInputs {
  readonly statistics?: StatisticsFile;
  /** Identifies the model and all inputs. */
  readonly recipe: Recipe;
  /** What the chat template took for the present, where it prints the date. */
  readonly date?: string;
  /** Prepares the inputs for the loaded model. */
  open(loaded: Model): Promise<OpenInputs>;
}

/** Everything about the inputs of a loaded model that differs between texts and images. */
export interface OpenInputs {
  /** The model to run; an image encoder has its images as vocabulary. */
  readonly model: Model;
  readonly calibration: Calibration;
  readonly batches: readonly CalibrationBatch[];
  /** Sequences that no fit uses, to measure models during healing or for a budget; empty without a report or a budget. */
  readonly heldOut: readonly (readonly number[])[];
  /** Number of tokens behind `outputs`. */
  readonly outputTokens: number;
  /** Outputs of `model`, or of its pruned version, for the first inputs. */
  outputs(model: Model): Promise<Float32Array>;
  /** The same outputs of a model loaded from a folder. */
  outputsOfLoaded(loaded: Model): Promise<Float32Array>;
  /** Measures both models for the report, as much as `extent` says; absent without a report. */
  evaluate?(outcome: PruneOutcome, extent: ReportExtent): Promise<PruneEvaluations>;
  [Symbol.dispose](): void;
}
