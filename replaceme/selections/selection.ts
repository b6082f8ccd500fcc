import type { Device } from '../../engine/index.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import type { RepairContext } from '../fits/repair.js';
import type { Method } from '../methods/method.js';
import type { WindowChoice } from '../run/windowChoice.js';
import type { RowSums } from '../statistics/statisticsStore.js';

/** How much the selection `measured` measures. */
export interface MeasureSettings {
  /** Tokens that the map of windows and the candidates are fitted on, and others that candidates are judged on. */
  readonly fitTokens: number;
  readonly heldOutTokens: number;
  /** Sets of windows that are repaired and judged. */
  readonly candidates: number;
  /** Of these, how many are judged again with healing, where the method heals; each on half of all tokens. */
  readonly finalists: number;
}

/** What a selection chooses from. */
export interface SelectionContext extends RepairContext {
  /** Layers to remove. */
  readonly count: number;
  /** Into how many windows of equal size they are divided. */
  readonly windowCount: number;
  /** Keeps at least one layer between windows; otherwise those that touch become one. */
  readonly apart: boolean;
  /** How much the selection `measured` measures; the rest by the device. */
  readonly measuring?: Partial<MeasureSettings>;
  /** Tokens at a time of texts that models are judged on (default: by the device). */
  readonly batchTokens?: number;
  /** Bytes of the device that may be taken for speed alone, besides `states` (default: a share of what is free). */
  readonly spareBytes?: number;
  /** The method that is to repair what is selected. */
  readonly method: Method;
}

/** A mean over calibration tokens that windows are chosen by: its sums may be made on several machines. */
export interface DistanceSums {
  /** Names it in reports and in the statistics file. */
  readonly by: string;
  /** Layers of each window. */
  readonly count: number;
  /** The batches that it is a mean over. */
  readonly batches: readonly CalibrationBatch[];
  /** Sums over some of these. */
  sum(batches: readonly CalibrationBatch[]): Promise<RowSums>;
}

/** Tokens whose hidden states a selection keeps at a time, for plans; what is left out it does without. */
export interface SelectionTokens {
  /** Outputs of all layers, which the fit finds again. */
  readonly kept?: number;
  /** What the original model makes of them is compared with what candidates do. */
  readonly judged?: number;
  /** That candidates are repaired on; and, where the method heals, the best of them once more. */
  readonly repaired?: number;
  readonly healed?: number;
  /** Windows that it removes, where these are not of one size. */
  readonly windows?: number;
}

/** What is known of a selection before it runs. */
export interface SelectionPlan {
  readonly device: Device;
  readonly layers: number;
  /** Layers to remove. */
  readonly count: number;
  /** Calibration tokens. */
  readonly tokens: number;
}

/** Decides which layers go. One file per selection, one line in selections/index.ts. */
export interface Selection {
  readonly name: string;
  readonly summary: string;
  /** The paper it comes from. */
  readonly source: string;
  /** True where it heeds `windowCount`; the others remove layers wherever they lie. */
  readonly dividesInWindows?: true;
  /** True where it sends all tokens through one layer after the other: the layers may be streamed. */
  readonly layerByLayer?: true;
  /**
   * The mean over tokens that it chooses by, where that is all it looks at; left out where it runs changed models, which
   * all of its tokens must be there for.
   */
  distanceSums?(context: SelectionContext): DistanceSums;
  /** True where it measures how well models predict texts. */
  readonly judgesText?: true;
  /** True where another method would get other windows. */
  readonly dependsOnMethod?: true;
  /**
   * Chooses windows of `context.count` layers in all. @throws RmError where the model or the request leaves no
   * choice.
   */
  select(context: SelectionContext): Promise<WindowChoice>;
  /**
   * Tokens that it runs through all layers, for plans: a token through half of the layers counts one half. Left out
   * where these are all calibration tokens once.
   */
  tokens?(plan: SelectionPlan): number;
  /** Tokens whose hidden states it keeps. Left out where it keeps those of `tokens` for the fit. */
  memory?(plan: SelectionPlan): SelectionTokens;
}
