import type { Journal, Tensor } from '../../engine/index.js';
import { attendedColumns, type LayerWeights, type Model, mlpSizes } from '../../model/index.js';
import { ExpertStatistics } from './expertStatistics.js';
import type { ProjectionPath } from './ridgePath.js';
import { type RidgeSolution, RidgeStatistics } from './ridgeStatistics.js';

/** A projection that a refit changes: o_proj or down_proj. */
export type Projection = ProjectionPath['projection'];

/** The gain of the norm behind each projection, in families that have one. */
export const gainOf = { o: 'attentionOutNorm', down: 'mlpOutNorm' } as const;

/** New weights of a layer, those that changed. */
export type ProjectionWeights = { -readonly [Name in keyof LayerWeights]?: Tensor };

export type RidgeSummary = Omit<RidgeSolution, 'delta'>;

export interface SumsRequest {
  readonly projection: Projection;
  /** Names the fits so far on which these sums depend; empty for the first. */
  readonly after: string;
}

/** Puts a projection's sums into `statistics`. Returns false to end the fit, where the sums are not complete. */
export type SumsSource = (request: SumsRequest, statistics: ProjectionSums) => Promise<boolean>;

/** Sums for a projection: in a layer of experts, for each of them. */
export type ProjectionSums = RidgeStatistics | ExpertStatistics;

export interface ProjectionFit {
  readonly model: Model;
  readonly layer: number;
  /** How much of its change o_proj takes; 0: it keeps its weight. */
  readonly attentionStep: number;
  /** Only o_proj is fitted. */
  readonly keepsMlp?: boolean | undefined;
  /** Precision of o_proj's sums; down_proj has f32. */
  readonly precision: 'f32' | '48 bits';
  /** Share of G's mean diagonal; undefined: chosen by held-out tokens. */
  readonly ridge?: number | undefined;
  /** Ridges as shares of every feature's own square instead of their mean. */
  readonly scaled?: boolean | undefined;
  readonly journal: Journal;
  readonly sumsOf: SumsSource;
  /** Receives each new weight as soon as it is solved: later sums depend on it. */
  readonly weights: ProjectionWeights;
  /** Further new weights of the MLP, made after the fit of o_proj; down_proj is then fitted from these. */
  readonly newMlp?: (() => Promise<ProjectionWeights>) | undefined;
}

export interface Fitted {
  readonly path: ProjectionPath;
  /** Undefined where nothing helps, so that the projection keeps its weight. */
  readonly solved:
    | { readonly weights: ProjectionWeights; readonly summary: RidgeSummary | undefined }
    | undefined;
}

/** Empty sums for a projection whose features are one matrix. */
export function statisticsOf(
  { model, layer, precision }: ProjectionFit,
  projection: Projection,
): RidgeStatistics {
  const { arch, device } = model;
  return projection === 'o'
    ? new RidgeStatistics(device, attendedColumns(arch, layer), arch.hidden, precision)
    : new RidgeStatistics(device, mlpSizes(arch, layer).features, arch.hidden);
}

/** Empty sums for the down projections of experts. */
export const expertStatisticsOf = ({ model: { arch, device }, layer }: ProjectionFit): ExpertStatistics => {
  const { matrices: count, features, shared } = mlpSizes(arch, layer);
  return new ExpertStatistics(device, { count, features, shared, hidden: arch.hidden });
};
