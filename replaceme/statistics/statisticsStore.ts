import type { Scope, Tensor } from '../../engine/index.js';

/** Names sums over the calibration tokens that depend only on the original model's activations. */
export interface SumsKey {
  /** "ls" (MLP outputs), "refit o_proj" (attention outputs) or "refit down_proj" (MLP features). */
  readonly kind: string;
  /** The layer whose activations are summed. */
  readonly layer: number;
  /** The layer whose output is the target. */
  readonly target: number;
  /** How much a token counts, besides the weight of its file. */
  readonly weighting: string;
}

/** Sums over tokens: matrices in f32 and numbers, named by their kind. */
export interface Sums {
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly numbers: Readonly<Record<string, number>>;
}

/** A measure of the windows of one size, by the layer that stays, summed over rows of the calibration batches. */
export interface RowSums {
  readonly sums: readonly number[];
  /** Number of summed rows: tokens, or last tokens of sequences. */
  readonly rows: number;
}

/** Keeps sums over the calibration tokens for other settings and other windows. */
export interface StatisticsStore {
  /** Whether it has the sums. */
  has(key: SumsKey): boolean;
  /** The sums, their tensors owned by `scope`; undefined where there are none. */
  get(key: SumsKey, scope: Scope): Promise<Sums | undefined>;
  /** Keeps sums; sums that are already there stay. */
  put(key: SumsKey, sums: Sums): Promise<void>;
  /** The mean of a measure of the windows of `count` layers, by the layer that stays. */
  distances(measure: string, count: number): readonly number[] | undefined;
  /** Keeps a measure of windows. */
  putDistances(measure: string, count: number, values: RowSums): Promise<void>;
}

/** The means of the rows. */
export const meansOf = ({ sums, rows }: RowSums): number[] => sums.map(sum => sum / rows);
