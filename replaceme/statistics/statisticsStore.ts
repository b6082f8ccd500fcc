import type { Scope, Tensor } from '../../engine/index.js';

/** Names sums over the calibration tokens that depend on the original model's activations and on nothing else. */
export interface SumsKey {
  /** "ls" (MLP outputs), "refit o_proj" (attention outputs) or "refit down_proj" (MLP features). */
  readonly kind: string;
  /** The layer whose activations are summed. */
  readonly layer: number;
  /** The layer whose output is the target. */
  readonly target: number;
  /** What a token counts, besides the weight of its file. */
  readonly weighting: string;
}

/** What has been summed, as its kind names it: matrices in f32, and numbers. */
export interface Sums {
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly numbers: Readonly<Record<string, number>>;
}

/** A measure of the windows of one size, by the layer that stays, summed over rows of the calibration batches. */
export interface RowSums {
  readonly sums: readonly number[];
  /** Rows that were summed: tokens, or the last tokens of sequences. */
  readonly rows: number;
}

/** Keeps what a walk over the calibration tokens has found, for other settings and other windows. */
export interface StatisticsStore {
  /** Whether there are sums. */
  has(key: SumsKey): boolean;
  /** The sums put there, their tensors owned by `scope`; undefined where there are none. */
  get(key: SumsKey, scope: Scope): Promise<Sums | undefined>;
  /** Keeps sums; those of the same key are replaced. */
  put(key: SumsKey, sums: Sums): Promise<void>;
  /** The mean of a measure of the windows of `count` layers, by the layer that stays. */
  distances(measure: string, count: number): readonly number[] | undefined;
  /** Keeps the sums of a measure of windows. */
  putDistances(measure: string, count: number, values: RowSums): Promise<void>;
}

/** The means that sums stand for. */
export const meansOf = ({ sums, rows }: RowSums): number[] => sums.map(sum => sum / rows);
