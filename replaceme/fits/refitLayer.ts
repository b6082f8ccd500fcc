import { type Journal, noJournal, requireExactArithmetic, Scope, type Tensor } from '../../engine/index.js';
import { addTransposed, convert } from '../../kernels/index.js';
import { LayerSteps, type Model } from '../../model/index.js';
import type { LayerInputs } from '../activations/layerInputs.js';
import type { MethodOptions } from '../options/pruneOptions.js';
import { methodSettings } from '../options/pruneSettings.js';
import { difference, rowNormsOf } from '../activations/rowNorms.js';
import { type CalibrationBatch, openBatch, sequencesOf } from '../calibration/calibrationBatch.js';
import { forEachGroup } from '../run/runHooks.js';
import { findSinks } from './attentionSinks.js';
import { RelativeErrors } from './relativeErrors.js';
import type { ProjectionPath } from './ridgePath.js';
import { type RidgeSolution, RidgeStatistics } from './ridgeStatistics.js';

/** What a layer's projections are to lead to; rows are the tokens of batch `index`; it may be made in `scope`. */
export interface RefitTargets {
  /** L [T, hidden]: the layer's output as it should be. */
  output(index: number, scope: Scope): Promise<Tensor>;
  /** Y [T, hidden]: the hidden states after the attention as they should be. */
  afterAttention?(index: number, scope: Scope): Promise<Tensor>;
}

/** Settings of a refit (options/pruneSettings.ts); without an attention step o_proj stays, unless it has a target. */
export interface RefitOptions extends Readonly<Omit<MethodOptions, 'alpha' | 'cosine'>> {
  /** Ridges as shares of every feature's own square instead of their mean: better where little is left to explain. */
  readonly scaled?: boolean | undefined;
  /** Is shown each projection's statistics before they are solved; `attention`: what was done to o_proj before. */
  readonly onStatistics?: (
    name: 'o' | 'down',
    statistics: RidgeStatistics,
    attention?: RidgeSummary,
  ) => Promise<void>;
}

export interface LayerRefit {
  /** New o_proj and down_proj in the checkpoint's dtype, as far as they changed. The caller disposes them. */
  readonly weights: { o?: Tensor; down?: Tensor };
  readonly attention: RidgeSummary | undefined;
  readonly mlp: RidgeSummary | undefined;
  /** What every ridge came to that was tried, o_proj before down_proj. */
  readonly paths: readonly ProjectionPath[];
  /** Mean |L' - L|² / |L|² over ordinary tokens and over attention sinks, L' the new output. */
  readonly tokenResidual: number;
  readonly sinkResidual: number;
}

export type RidgeSummary = Omit<RidgeSolution, 'delta'>;

const defaultSinkWeight = methodSettings.sinkWeight.default;

/** How the sums weigh tokens, in words: sums of another weighting are of no use. */
export const tokenWeighting = ({ sinkWeight = defaultSinkWeight }: RefitOptions): string =>
  `w = 1/|L|, sinks ${sinkWeight}`;

/** Features of all tokens are kept from one pass to the next up to this; above it they are computed again. */
export const KEPT_BYTES = 2 ** 30;

/**
 * Refits o_proj and down_proj of the layer that `pruned` has come to, by ridge regression towards the weights as they
 * are: o_proj from what the attention gives it, then down_proj from the MLP features that follow from the new o_proj.
 * Tokens count 1/|target|. A projection for which no ridge helps on the held-out half stays as it is. Afterwards
 * `pruned` holds the layer's outputs; which layer's inputs those are is the caller's to say (`arriveAt`).
 *
 * Source: our own. Kin: GRAIL (a ridge folded into the weight that consumes the features), GPTAQ (arXiv:2504.02692,
 * inputs of the compressed model against targets of the original).
 */
export async function refitLayer(
  pruned: LayerInputs,
  targets: RefitTargets,
  options: RefitOptions = {},
): Promise<LayerRefit> {
  using refit = new Refit(pruned, targets, options);
  const attention = await refit.attention();
  // Sums of o_proj have other sizes than those of down_proj: in the pool they would stand beside them.
  pruned.model.device.memory.trim();
  const mlp = await refit.mlp(attention);
  const residuals = await refit.advance();
  return { weights: refit.release(), attention, mlp, paths: refit.paths, ...residuals };
}

/** One batch on its way through the layer; what is made in `scope` goes when the step is over. */
interface Visit {
  readonly index: number;
  readonly batch: CalibrationBatch;
  readonly scope: Scope;
  readonly steps: LayerSteps;
}

/** What became of a projection; without `solved` it stays as it is. */
interface SolvedProjection {
  readonly path: ProjectionPath;
  readonly solved?: { readonly weight: Tensor; readonly summary: RidgeSummary };
}

class Refit {
  readonly #kept: Scope;
  readonly #fresh: Scope;
  readonly #weights: { o?: Tensor; down?: Tensor } = {};
  readonly paths: ProjectionPath[] = [];
  /** By batch: A, Y and H, as far as there is room. */
  readonly #attended: Tensor[] = [];
  readonly #afterAttention: Tensor[] = [];
  readonly #features: Tensor[] = [];
  /** Otherwise they are computed again. */
  readonly #keeps: { readonly states: boolean; readonly features: boolean };
  readonly #journal: Journal;

  constructor(
    private readonly pruned: LayerInputs,
    private readonly targets: RefitTargets,
    private readonly options: RefitOptions,
  ) {
    const { device, arch } = pruned.model;
    this.#kept = new Scope(device);
    this.#fresh = new Scope(device);
    this.#journal = pruned.options.journal ?? noJournal;
    const states = pruned.options.placement?.keepsInner ?? true;
    this.#keeps = { states, features: states && 4 * pruned.tokens * arch.intermediate <= KEPT_BYTES };
  }

  /** o_proj. */
  async attention(): Promise<RidgeSummary | undefined> {
    const { targets, pruned } = this;
    const { attentionStep = 0 } = this.options;
    if (!targets.afterAttention && attentionStep === 0) return undefined;
    const { arch, device } = pruned.model;
    const inputs = arch.heads * arch.headDim;
    // What down_proj's sums depend on comes out the same from sums over shards.
    const precision = targets.afterAttention ? 'f32' : '48 bits';
    const solved = await this.#journal.step('o_proj', async () => {
      // Before there are sums: its check of the device needs memory too.
      if (precision === '48 bits') await requireExactArithmetic(device);
      using statistics = new RidgeStatistics(device, inputs, arch.hidden, precision);
      await this.sumAttention(statistics);
      await this.options.onStatistics?.('o', statistics);
      return await this.solve(statistics, 'o', targets.afterAttention ? 1 : attentionStep);
    });
    return this.accept(solved);
  }

  /** Adds all tokens to the statistics of o_proj. */
  async sumAttention(statistics: RidgeStatistics): Promise<void> {
    const { targets, pruned } = this;
    using _held = await this.#journal.track('sums', statistics);
    await this.#forEach('o_proj', async ({ index, batch, scope, steps }) => {
      const input = await pruned.input(index, scope);
      const attended = steps.attended(input);
      if (this.#keeps.states) this.#keep(scope, this.#attended, index, attended);
      const y = steps.postAttention(input, attended);
      const [target, now] = targets.afterAttention
        ? [await targets.afterAttention(index, scope), y]
        : [await targets.output(index, scope), steps.output(y, steps.mlpFeatures(y, input))];
      await this.#add(statistics, batch, scope, attended, target, now);
    });
  }

  /** down_proj, after `attention` has changed o_proj. */
  async mlp(attention: RidgeSummary | undefined): Promise<RidgeSummary | undefined> {
    const { arch, device } = this.pruned.model;
    const solved = await this.#journal.step('down_proj', async () => {
      using statistics = new RidgeStatistics(device, arch.intermediate, arch.hidden);
      await this.sumMlp(statistics);
      await this.options.onStatistics?.('down', statistics, attention);
      return await this.solve(statistics, 'down', 1);
    });
    return this.accept(solved);
  }

  /** Adds all tokens to the statistics of down_proj, with o_proj as it is by now. */
  async sumMlp(statistics: RidgeStatistics): Promise<void> {
    const { targets } = this;
    using _held = await this.#journal.track('sums', statistics);
    await this.#forEach('down_proj', async visit => {
      const { index, batch, scope, steps } = visit;
      const y = await this.#y(visit);
      if (this.#keeps.states) this.#keep(scope, this.#afterAttention, index, y);
      const features = await this.#featuresOf(visit, y);
      if (this.#keeps.features) this.#keep(scope, this.#features, index, features);
      const target = await targets.output(index, scope);
      await this.#add(statistics, batch, scope, features, target, steps.output(y, features));
    });
  }

  /** H of Y, and where branches are parallel of the layer's input. */
  async #featuresOf({ index, scope, steps }: Visit, y: Tensor): Promise<Tensor> {
    const { model } = this.pruned;
    return steps.mlpFeatures(y, model.arch.parallel ? await this.pruned.input(index, scope) : y);
  }

  /** Runs the layer with its new weights; what is left of the error, by kind of token. */
  async advance(): Promise<{ tokenResidual: number; sinkResidual: number }> {
    const residuals = new RelativeErrors();
    using _held = await this.#journal.track('residuals', residuals);
    await this.#forEach('output', async visit => {
      const { index, batch, scope, steps } = visit;
      const y = this.#afterAttention[index] ?? (await this.#y(visit));
      const output = steps.output(y, this.#features[index] ?? (await this.#featuresOf(visit, y)));
      const target = await this.targets.output(index, scope);
      const [norms, errors] = [await rowNormsOf(target), await rowNormsOf(difference(scope, target, output))];
      residuals.add(norms, errors, findSinks(norms, batch.sequences));
      await this.pruned.replace(index, scope.release(output));
    });
    return { tokenResidual: residuals.ordinary, sinkResidual: residuals.sinks ?? 0 };
  }

  /** Y with the weights as they are by now. */
  async #y({ index, scope, steps }: Visit): Promise<Tensor> {
    const input = await this.pruned.input(index, scope);
    return steps.postAttention(input, this.#attended[index] ?? steps.attended(input));
  }

  /** Hands the new weights over. */
  release(): { o?: Tensor; down?: Tensor } {
    for (const tensor of Object.values(this.#weights)) this.#fresh.release(tensor);
    return this.#weights;
  }

  async #forEach(name: string, visit: (visit: Visit) => Promise<void>): Promise<void> {
    const { model, batches, depth, options } = this.pruned;
    await model.loadLayer(depth);
    const weights = { ...model.weights.layers[depth]!, ...this.#weights };
    using _section = model.device.section('forward');
    await forEachGroup(options, `layer ${depth}, ${name}`, batches, sequencesOf, async (batch, index) => {
      using scope = new Scope(model.device);
      using opened = openBatch(model.device, batch);
      await visit({ index, batch, scope, steps: new LayerSteps(model, depth, opened, scope, weights) });
    });
  }

  #keep(scope: Scope, list: Tensor[], index: number, tensor: Tensor): void {
    list[index] = this.#kept.own(scope.release(tensor));
  }

  /** Adds a batch to the statistics: from `features` to what is missing between `now` and `target`. */
  async #add(
    statistics: RidgeStatistics,
    batch: CalibrationBatch,
    scope: Scope,
    features: Tensor,
    target: Tensor,
    now: Tensor,
  ): Promise<void> {
    using _section = scope.device.section('statistics');
    const norms = await rowNormsOf(target);
    const sinks = findSinks(norms, batch.sequences);
    const { sinkWeight = defaultSinkWeight } = this.options;
    const weights = norms.map((norm, t) =>
      norm > 0 ? (batch.weight * (sinks[t] ? sinkWeight : 1)) / norm : 0,
    );
    await statistics.add(batch.half, features, difference(scope, target, now), weights);
  }

  /** A new weight for a projection of the layer. The caller disposes it. */
  async solve(statistics: RidgeStatistics, name: 'o' | 'down', step: number): Promise<SolvedProjection> {
    const { model, depth } = this.pruned;
    const weight = model.weights.layers[depth]![name];
    const solved = await solvedWeight(weight, statistics, step / model.arch.residualScale, this.options);
    return { path: pathOf(name, statistics, solved?.summary), ...(solved && { solved }) };
  }

  /** Gives a projection the weight that `solve` has found, which is taken over. */
  accept({ path, solved }: SolvedProjection): RidgeSummary | undefined {
    this.paths.push(path);
    if (!solved) return undefined;
    this.#weights[path.projection] = this.#fresh.own(solved.weight);
    return solved.summary;
  }

  [Symbol.dispose](): void {
    this.#kept.dispose();
    this.#fresh.dispose();
  }
}

/** What `refitLayer` gives without what it measures on the tokens. */
export type CachedRefit = Pick<LayerRefit, 'weights' | 'attention' | 'mlp' | 'paths'>;

/**
 * The same from statistics that `onStatistics` was shown in an earlier run, without looking at a token.
 *
 * @returns undefined where sums are missing.
 */
export async function refitFromCache(
  model: Model,
  layer: number,
  options: RefitOptions,
  recall: CachedSums,
): Promise<CachedRefit | undefined> {
  const { arch, device } = model;
  const { attentionStep = 0 } = options;
  await model.loadLayer(layer);
  using fresh = new Scope(device);
  const paths: ProjectionPath[] = [];
  const solved = async (name: 'o' | 'down', inputs: number, step: number, before?: RidgeSummary) => {
    using statistics = new RidgeStatistics(device, inputs, arch.hidden, name === 'o' ? '48 bits' : 'f32');
    if (!(await recall(name, statistics, before))) return undefined;
    const weight = model.weights.layers[layer]![name];
    const found = await solvedWeight(weight, statistics, step / arch.residualScale, options);
    if (found) fresh.own(found.weight);
    paths.push(pathOf(name, statistics, found?.summary));
    return { ...(found && { weights: { [name]: found.weight }, summary: found.summary }) };
  };
  const o: Awaited<ReturnType<typeof solved>> =
    attentionStep > 0 ? await solved('o', arch.heads * arch.headDim, attentionStep) : {};
  const down = o && (await solved('down', arch.intermediate, 1, o.summary));
  if (!down) return undefined;
  fresh.releaseAll();
  return { weights: { ...o.weights, ...down.weights }, attention: o.summary, mlp: down.summary, paths };
}

/** Puts the sums of a projection into `statistics`, or says false where it has none. */
export type CachedSums = (
  name: 'o' | 'down',
  statistics: RidgeStatistics,
  attention?: RidgeSummary,
) => Promise<boolean>;

/**
 * Shows `onStatistics` the sums over a part of the tokens that `refitFromCache` lacks: of o_proj, or where `recall` has
 * those over all tokens, of down_proj. MLP features follow from the new o_proj, so its sums must be whole before.
 *
 * @returns whether down_proj's turn has come.
 */
export async function accumulateRefit(
  pruned: LayerInputs,
  targets: RefitTargets,
  options: RefitOptions,
  recall: CachedSums,
): Promise<boolean> {
  const { arch, device } = pruned.model;
  const { attentionStep = 0, onStatistics } = options;
  using refit = new Refit(pruned, targets, options);
  let attention: RidgeSummary | undefined;
  if (attentionStep > 0) {
    using statistics = new RidgeStatistics(device, arch.heads * arch.headDim, arch.hidden, '48 bits');
    if (!(await recall('o', statistics))) {
      await refit.sumAttention(statistics);
      await onStatistics?.('o', statistics);
      return false;
    }
    attention = refit.accept(await refit.solve(statistics, 'o', attentionStep));
  }
  using statistics = new RidgeStatistics(device, arch.intermediate, arch.hidden);
  await refit.sumMlp(statistics);
  await onStatistics?.('down', statistics, attention);
  return true;
}

const pathOf = (
  projection: 'o' | 'down',
  { points }: RidgeStatistics,
  found: RidgeSummary | undefined,
): ProjectionPath => ({ projection, points, ...(found && { chosen: found.ridge }) });

async function solvedWeight(
  weight: Tensor,
  statistics: RidgeStatistics,
  step: number,
  { ridge, scaled }: RefitOptions,
): Promise<{ weight: Tensor; summary: RidgeSummary } | undefined> {
  using _section = weight.device.section('solve');
  const solution = await statistics.solve(ridge, { scaled });
  if (!solution) return undefined;
  const { delta, ...summary } = solution;
  using _ = delta;
  return { weight: movedWeight(weight, delta, step), summary };
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
