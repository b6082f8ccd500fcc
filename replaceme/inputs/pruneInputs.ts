import type { Model } from '../../model/index.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import type { Calibration } from '../calibration/readCalibration.js';
import type { PruneEvaluations, PruneOutcome } from '../evaluation/pruneEvaluation.js';
import type { Recipe } from '../run/recipe.js';
import type { StatisticsFile } from '../statistics/statisticsFile.js';

/** What a run of `prune` reads besides the model, before the model: a wrong file should not cost that time. */
export interface PruneInputs {
  readonly statistics?: StatisticsFile;
  /** What the model and all that is read come to. */
  readonly recipe: Recipe;
  /** Gives them to the model that was loaded. */
  open(loaded: Model): Promise<OpenInputs>;
}

/** Inputs of a loaded model: all that depends on whether it reads texts or images. */
export interface OpenInputs {
  /** The model that walks and fits run; of an image encoder, with its images for a vocabulary. */
  readonly model: Model;
  readonly calibration: Calibration;
  readonly batches: readonly CalibrationBatch[];
  /** Sequences that nothing is fitted on, to see on the way how a model does; none where no report is to be made. */
  readonly heldOut: readonly (readonly number[])[];
  /** How many tokens `outputs` looks at. */
  readonly outputTokens: number;
  /** What `model`, or what it was pruned to, makes of the first inputs. */
  outputs(model: Model): Promise<Float32Array>;
  /** The same of a model that was loaded from a folder. */
  outputsOfLoaded(loaded: Model): Promise<Float32Array>;
  /** Measures both models for the report; absent where none is to be made. */
  evaluate?(outcome: PruneOutcome): Promise<PruneEvaluations>;
  [Symbol.dispose](): void;
}
