import { Scope, type Tensor } from '../../engine/index.js';
import { addTransposed, convert } from '../../kernels/index.js';
import { fitThroughNorm } from './fitThroughNorm.js';
import {
  expertStatisticsOf,
  type Fitted,
  gainOf,
  type Projection,
  type ProjectionFit,
  type ProjectionSums,
  type ProjectionWeights,
  type RidgeSummary,
  type SumsRequest,
  statisticsOf,
} from './projectionFit.js';
import type { ProjectionPath } from './ridgePath.js';

export interface ProjectionFits {
  /** New weights in the number types of the checkpoint. The caller disposes them. */
  readonly weights: ProjectionWeights;
  /** Undefined for a projection that keeps its weight. */
  readonly attention: RidgeSummary | undefined;
  readonly mlp: RidgeSummary | undefined;
  /** The held-out loss of every ridge that was tried, o_proj before down_proj; of each projection that was fitted. */
  readonly paths: readonly ProjectionPath[];
}

/**
 * Fits o_proj, then down_proj of a layer by ridge regression from sums over tokens, with the gains of the norms behind
 * them where there are such norms.
 *
 * @returns undefined where `sumsOf` has no complete sums.
 */
export async function fitProjections(fit: ProjectionFit): Promise<ProjectionFits | undefined> {
  const { model, layer, attentionStep, weights } = fit;
  const { device, arch } = model;
  const names = arch.tensorNames.layers[layer]!;
  using fresh = new Scope(device);
  const paths: ProjectionPath[] = [];
  const take = (found: ProjectionWeights) => {
    for (const [name, tensor] of Object.entries(found) as [keyof ProjectionWeights, Tensor][]) {
      weights[name]?.dispose();
      weights[name] = fresh.own(tensor);
    }
  };
  const run = async (projection: Projection, step: number, after: string) => {
    const fitPlain = projection === 'down' && names.router ? fitExperts : fitLinear;
    const fitted = await (names[gainOf[projection]]
      ? fitThroughNorm(fit, projection, step, after)
      : fit.journal
          .step(`${projection}_proj`, () => fitPlain(fit, projection, step, after)));
    if (!fitted) return undefined;
    paths.push(fitted.path);
    take(fitted.solved?.weights ?? {});
    return { summary: fitted.solved?.summary };
  };
  const attention = attentionStep > 0 ? await run('o', attentionStep, '') : { summary: undefined };
  if (!attention) return undefined;
  // The pool would keep o_proj's sums, whose sizes down_proj can't use.
  await device.reclaim();
  if (fit.newMlp) take(await fit.newMlp());
  const moved = attention.summary ? `, o_proj ${attentionStep} at ridge ${attention.summary.ridge}` : '';
  const mlp = fit.keepsMlp ? { summary: undefined } : await run('down', 1, moved);
  if (!mlp) return undefined;
  fresh.releaseAll();
  return { weights, attention: attention.summary, mlp: mlp.summary, paths };
}

interface Solver<S> {
  solve(ridge?: number, options?: { scaled?: boolean | undefined }): Promise<S | undefined>;
}

/**
 * Solves for a projection once its sums are complete.
 *
 * @param apply turns a solution into weights, and disposes its tensors.
 */
async function fitSums<S extends { readonly ridge: number }>(
  { model, layer, ridge, scaled, sumsOf }: ProjectionFit,
  request: SumsRequest,
  statistics: ProjectionSums & Solver<S>,
  apply: (solution: S) => NonNullable<Fitted['solved']>,
): Promise<Fitted | undefined> {
  if (!(await sumsOf(request, statistics))) return undefined;
  using _section = model.device.section('solve');
  await model.loadLayer(layer);
  const solver: Solver<S> = statistics;
  const solution = await solver.solve(ridge, { scaled });
  const path = { projection: request.projection, points: statistics.points };
  if (!solution) return { path, solved: undefined };
  return { path: { ...path, chosen: solution.ridge }, solved: apply(solution) };
}

async function fitLinear(
  fit: ProjectionFit,
  projection: Projection,
  step: number,
  after: string,
): Promise<Fitted | undefined> {
  const { model, layer } = fit;
  using statistics = statisticsOf(fit, projection);
  return await fitSums(fit, { projection, after }, statistics, ({ delta, ...summary }) => {
    using _ = delta;
    const weight = fit.weights[projection] ?? model.weights.layers[layer]![projection];
    const moved = movedWeight(weight, delta, step / model.arch.residualScale);
    return { weights: { [projection]: moved }, summary };
  });
}

/** Fits the down projections of all experts, the shared one among them. */
async function fitExperts(
  fit: ProjectionFit,
  projection: Projection,
  step: number,
  after: string,
): Promise<Fitted | undefined> {
  const { model, layer } = fit;
  using statistics = expertStatisticsOf(fit);
  return await fitSums(fit, { projection, after }, statistics, ({ deltas, shared, ...summary }) => {
    using scope = new Scope(model.device);
    for (const delta of [...deltas, shared]) if (delta) scope.own(delta);
    const { down, sharedDown } = model.weights.layers[layer]!;
    const moved = step / model.arch.residualScale;
    const weights = {
      ...(deltas.some(Boolean) && { down: scope.own(movedStack(down, deltas, moved)) }),
      ...(shared && sharedDown && { sharedDown: scope.own(movedWeight(sharedDown, shared, moved)) }),
    };
    for (const tensor of Object.values(weights)) scope.release(tensor);
    return { weights, summary };
  });
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

/** The same for matrices that lie one below the other; those without a Delta stay as they are. */
function movedStack(stack: Tensor, deltas: readonly (Tensor | undefined)[], step: number): Tensor {
  const { device, shape, dtype, label } = stack;
  using scope = new Scope(device);
  const stored = scope.tensor(shape, dtype, label);
  device.recorder.copy(stack, stored);
  const rows = stack.rowCount / deltas.length;
  for (const [i, delta] of deltas.entries()) {
    if (!delta) continue;
    using one = new Scope(device);
    // A view of it might begin where no binding can.
    const weight = one.tensor([rows, stack.columns], dtype, label);
    device.recorder.copy(stack.rows(i * rows, rows), weight);
    device.recorder.copy(one.own(movedWeight(weight, delta, step)), stored.rows(i * rows, rows));
  }
  return scope.release(stored);
}
