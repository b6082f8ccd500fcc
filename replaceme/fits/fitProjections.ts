import { type Journal, Scope, type Tensor } from '../../engine/index.js';
import { addTransposed, convert } from '../../kernels/index.js';
import type { Model } from '../../model/index.js';
import type { ProjectionPath } from './ridgePath.js';
import { type RidgeSolution, RidgeStatistics } from './ridgeStatistics.js';

/** A projection that a refit changes: o_proj or down_proj. */
export type Projection = ProjectionPath['projection'];

/** New weights of a layer's projections, those that changed. */
export type ProjectionWeights = { [P in Projection]?: Tensor };

export type RidgeSummary = Omit<RidgeSolution, 'delta'>;

/**
 * Puts a projection's sums into `statistics`. Returns false to end the fit, where the sums are not complete.
 *
 * @param attention the fit of o_proj, on which down_proj's sums depend.
 */
export type SumsSource = (
  projection: Projection,
  statistics: RidgeStatistics,
  attention?: RidgeSummary,
) => Promise<boolean>;

export interface ProjectionFits {
  /** New o_proj and down_proj in the checkpoint's dtype. The caller disposes them. */
  readonly weights: ProjectionWeights;
  /** Undefined for a projection that keeps its weight. */
  readonly attention: RidgeSummary | undefined;
  readonly mlp: RidgeSummary | undefined;
  /** The held-out loss of every ridge that was tried, o_proj before down_proj. */
  readonly paths: readonly ProjectionPath[];
}

export interface ProjectionFit {
  readonly model: Model;
  readonly layer: number;
  /** How much of its change o_proj takes; 0: it keeps its weight. */
  readonly attentionStep: number;
  /** Precision of o_proj's sums; down_proj has f32. */
  readonly precision: 'f32' | '48 bits';
  /** Share of G's mean diagonal; undefined: chosen by held-out tokens. */
  readonly ridge?: number | undefined;
  /** Ridges as shares of every feature's own square instead of their mean. */
  readonly scaled?: boolean | undefined;
  readonly journal: Journal;
  readonly sumsOf: SumsSource;
  /** Receives each new weight as soon as it is solved: down_proj's features follow from the new o_proj. */
  readonly weights: ProjectionWeights;
}

interface Fitted {
  readonly path: ProjectionPath;
  /** Undefined where no ridge helps, so that the projection keeps its weight. */
  readonly solved: { readonly weight: Tensor; readonly summary: RidgeSummary } | undefined;
}

/**
 * Fits o_proj, then down_proj of a layer by ridge regression from sums over tokens.
 *
 * @returns undefined where `sumsOf` has no complete sums.
 */
export async function fitProjections(fit: ProjectionFit): Promise<ProjectionFits | undefined> {
  const { model, attentionStep, precision, weights } = fit;
  const { arch, device } = model;
  using fresh = new Scope(device);
  const paths: ProjectionPath[] = [];
  const run = async (projection: Projection, step: number, attention?: RidgeSummary) => {
    const inputs = projection === 'o' ? arch.heads * arch.headDim : arch.intermediate;
    const fitted = await fit.journal
      .step(`${projection}_proj`, async () => {
        using statistics = new RidgeStatistics(
          device,
          inputs,
          arch.hidden,
          projection === 'o' ? precision : 'f32',
        );
        if (!(await fit.sumsOf(projection, statistics, attention))) return undefined;
        return await solve(fit, projection, statistics, step);
      });
    if (!fitted) return undefined;
    const { path, solved } = fitted;
    paths.push(path);
    if (solved) weights[projection] = fresh.own(solved.weight);
    return { summary: solved?.summary };
  };
  const attention = attentionStep > 0 ? await run('o', attentionStep) : { summary: undefined };
  if (!attention) return undefined;
  // The pool would keep o_proj's sums, whose sizes down_proj can't use.
  device.memory.trim();
  const mlp = await run('down', 1, attention.summary);
  if (!mlp) return undefined;
  fresh.releaseAll();
  return { weights, attention: attention.summary, mlp: mlp.summary, paths };
}

async function solve(
  { model, layer, ridge, scaled }: ProjectionFit,
  projection: Projection,
  statistics: RidgeStatistics,
  step: number,
): Promise<Fitted> {
  using _section = model.device.section('solve');
  await model.loadLayer(layer);
  const solution = await statistics.solve(ridge, { scaled });
  const path = { projection, points: statistics.points };
  if (!solution) return { path, solved: undefined };
  const { delta, ...summary } = solution;
  using _ = delta;
  const weight = model.weights.layers[layer]![projection];
  return {
    path: { ...path, chosen: summary.ridge },
    solved: { weight: movedWeight(weight, delta, step / model.arch.residualScale), summary },
  };
}

/** W + step * Deltaᵀ in W's dtype; W [out, in], Delta [in, out] f32. The caller disposes it. */
function movedWeight(weight: Tensor, delta: Tensor, step: number): Tensor {
  const { device, shape } = weight;
  using scope = new Scope(device);
  const wide = scope.tensor(shape, 'f32', weight.label);
  const stored = scope.tensor(shape, weight.dtype, weight.label);
  convert(device.recorder, weight, wide);
  addTransposed(device.recorder, delta, step, wide);
  convert(device.recorder, wide, stored);
  return scope.release(stored);
}
