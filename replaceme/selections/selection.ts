import type { DeviceFacts } from '../../engine/index.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import type { RepairContext } from '../fits/repair.js';
import type { Method } from '../methods/method.js';
import type { Window } from '../run/window.js';
import type { WindowChoice } from '../run/windowChoice.js';
import type { RowSums } from '../statistics/statisticsStore.js';

/** Sizes of the selection `measured`. */
export interface MeasureSettings {
  /** Tokens to fit the window map and the candidates on, and other tokens to judge the candidates by. */
  readonly fitTokens: number;
  readonly heldOutTokens: number;
  /** How many sets of windows are repaired and judged. */
  readonly candidates: number;
  /** How many of them are judged again with healing, if the method heals; each on half of all tokens. */
  readonly finalists: number;
}

/** The inputs of a selection. */
export interface SelectionContext extends RepairContext {
  /** Layers to remove. */
  readonly count: number;
  /** The number of windows of equal size that remove them. */
  readonly windowCount: number;
  /** Keeps at least one layer between windows; otherwise adjacent windows merge. */
  readonly apart: boolean;
  /** Sizes of the selection `measured`; the others depend on the device. */
  readonly measuring?: Partial<MeasureSettings>;
  /** Tokens at a time of texts that judge models (default: by the device). */
  readonly batchTokens?: number;
  /** Device bytes to use for speed alone, besides `states` (default: a share of what is free). */
  readonly spareBytes?: number;
  /** The method that will repair the chosen windows. */
  readonly method: Method;
  /** Windows may be chosen only if each layer that stays is of its new place's kind: the output derives kinds from places. */
  readonly keepsPattern?: boolean;
}

/** A mean over calibration tokens that chooses windows; several machines may sum its parts. */
export interface DistanceSums {
  /** The measure's name in reports and in the statistics file. */
  readonly by: string;
  /** Layers of each window. */
  readonly count: number;
  /** The batches that the mean is taken over. */
  readonly batches: readonly CalibrationBatch[];
  /** Sums over some of these batches. */
  sum(batches: readonly CalibrationBatch[]): Promise<RowSums>;
}

/** For plans: the tokens whose hidden states a selection keeps at a time (default 0 each). */
export interface SelectionTokens {
  /** With outputs of all layers, which the fit uses later. */
  readonly kept?: number;
  /** With the original model's outputs, against which candidates are compared. */
  readonly judged?: number;
  /** On which candidates are repaired; and on which the best are repaired again with healing. */
  readonly repaired?: number;
  readonly healed?: number;
  /** Number of removed windows, where they differ in size. */
  readonly windows?: number;
  readonly rounds?: JudgingRounds;
}

/** For plans: how a selection judges candidates in two rounds. */
export interface JudgingRounds {
  /** Candidates like those that it will find. */
  readonly sets: readonly (readonly Window[])[];
  /** The first round: tokens that it repairs on, and tokens that it judges by. */
  readonly repaired: number;
  readonly judged: number;
  /** How many candidates reach the last round. */
  readonly finalists: number;
}

/** For plans: what a selection's cost depends on. */
export interface SelectionPlan {
  readonly device: DeviceFacts;
  readonly layers: number;
  /** Layers to remove, and in how many windows. */
  readonly count: number;
  readonly windowCount: number;
  /** Calibration tokens. */
  readonly tokens: number;
  /** Whether the layers after the cut are healed in closed form. */
  readonly heals: boolean;
}

/** Chooses the layers to remove. One file per selection, one line in selections/index.ts. */
export interface Selection {
  readonly name: string;
  readonly summary: string;
  /** Its paper. */
  readonly source: string;
  /** How it obeys `windowCount`: by windows of equal or of any size. Other selections remove layers wherever they are. */
  readonly dividesInWindows?: 'equal' | 'any';
  /** Whether it runs all tokens through one layer after the other, so that layers may be offloaded. */
  readonly layerByLayer?: true;
  /**
   * The mean over tokens that alone decides the choice; left out by a selection that runs changed models, which needs all
   * tokens on one machine.
   */
  distanceSums?(context: SelectionContext): DistanceSums;
  /** Whether it measures how well models predict texts. */
  readonly judgesText?: true;
  /** Whether the choice depends on the method. */
  readonly dependsOnMethod?: true;
  /**
   * Chooses windows of `context.count` layers in all.
   *
   * @throws RmError where the model or the request leaves no choice.
   */
  select(context: SelectionContext): Promise<WindowChoice>;
  /**
   * For plans: how many tokens it runs through all layers; a token through half of the layers counts one half (default:
   * all calibration tokens once).
   */
  tokens?(plan: SelectionPlan): number;
  /** For plans: tokens whose hidden states it keeps (default: those of `tokens`, for the fit). */
  memory?(plan: SelectionPlan): SelectionTokens;
}
