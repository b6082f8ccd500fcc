import { type Journal, LaterDownloads, noJournal, Scope, Tensor } from '../../engine/index.js';
import { add } from '../../kernels/index.js';
import { LayerSteps, type MlpFeatures, tensorsOf } from '../../model/index.js';
import type { LayerInputs } from '../activations/layerInputs.js';
import { difference, rootsOf, rowNormsOf } from '../activations/rowOperations.js';
import { type BatchVisit, forEachBatch } from '../calibration/forEachBatch.js';
import type { MethodOptions } from '../options/pruneOptions.js';
import { methodSettings } from '../options/pruneSettings.js';
import { findSinks } from './attentionSinks.js';
import { dividedByNorm } from './dividedByNorm.js';
import { ExpertStatistics } from './expertStatistics.js';
import { gainOf, type Projection, type ProjectionSums, type ProjectionWeights } from './projectionFit.js';
import { RelativeErrors } from './relativeErrors.js';

/** What a refitted layer should produce; rows are the tokens of batch `index`, and a tensor may be new in `scope`. */
export interface RefitTargets {
  /** L [T, hidden]: the layer's output. */
  output(index: number, scope: Scope): Promise<Tensor>;
  /** Y [T, hidden]: the hidden states after the attention. */
  afterAttention?(index: number, scope: Scope): Promise<Tensor>;
}

/** How much attention sinks count, beside ordinary tokens. */
type TokenWeighting = Pick<MethodOptions, 'sinkWeight'>;

const defaultSinkWeight = methodSettings.sinkWeight.default;

/** Names the weighting of tokens: cached sums of another weighting do not fit. */
export const tokenWeighting = ({ sinkWeight = defaultSinkWeight }: TokenWeighting): string =>
  `w = 1/|L|, sinks ${sinkWeight}`;

/** MLP features of all tokens are kept between passes up to this size; above it they are recomputed. */
export const KEPT_BYTES = 2 ** 30;

/** A batch on its way through the layer. */
interface LayerVisit extends BatchVisit {
  readonly steps: LayerSteps;
}

/** What a layer computes between its input and its output: A and Y. */
type Inner = 'attended' | 'afterAttention';

/** Runs one layer over all tokens: to sum statistics of its projections, then with its new weights. */
export class RefitPass {
  readonly #scope: Scope;
  /** By batch: A, Y and H, where there is room; otherwise they are recomputed. */
  readonly #tensors: Readonly<Record<Inner, Tensor[]>> = { attended: [], afterAttention: [] };
  readonly #features: MlpFeatures[] = [];
  readonly #keepsStates: boolean;
  readonly #keepsFeatures: boolean;
  readonly #journal: Journal;

  /**
   * @param weights new weights of the layer so far, which each pass uses.
   * @param weighting how much a token counts.
   */
  constructor(
    private readonly inputs: LayerInputs,
    private readonly targets: RefitTargets,
    private readonly weights: ProjectionWeights,
    private readonly weighting: TokenWeighting,
  ) {
    this.#scope = new Scope(inputs.model.device);
    this.#journal = inputs.options.journal ?? noJournal;
    this.#keepsStates = inputs.options.placement?.keepsInner ?? true;
    this.#keepsFeatures =
      this.#keepsStates && 4 * inputs.tokens * inputs.model.arch.intermediate <= KEPT_BYTES;
  }

  /** Adds all tokens to the statistics of a projection. */
  async sum(projection: Projection, statistics: ProjectionSums): Promise<void> {
    using _tracking = await this.#journal.track('sums', statistics);
    await this.#forEach(`${projection}_proj`, visit =>
      projection === 'o' ? this.#addAttention(statistics, visit) : this.#addMlp(statistics, visit),
    );
  }

  async #addAttention(statistics: ProjectionSums, visit: LayerVisit): Promise<void> {
    const {
      targets,
      inputs: { model },
    } = this;
    const { index, scope, steps } = visit;
    const input = await this.inputs.input(index, scope);
    const attended = await this.#kept('attended', visit, () => steps.attended(input));
    if (this.#isNormed('o')) {
      const [target, rest] = targets.afterAttention
        ? [await targets.afterAttention(index, scope), input]
        : [await targets.output(index, scope), await this.#withMlpAsItWas(visit, input, attended)];
      const divided = dividedByNorm(scope, model.arch, attended, steps.attentionProjected(attended));
      return await this.#add(statistics, visit, divided, target, rest);
    }
    const y = steps.postAttention(input, attended);
    const [target, current] = targets.afterAttention
      ? [await targets.afterAttention(index, scope), y]
      : [await targets.output(index, scope), steps.output(y, steps.mlpFeatures(y, input))];
    await this.#add(statistics, visit, attended, target, current);
  }

  async #addMlp(statistics: ProjectionSums, visit: LayerVisit): Promise<void> {
    const { index, scope, steps } = visit;
    const y = await this.#kept('afterAttention', visit, () => this.#y(visit));
    const features = await this.#featuresOf(visit, y);
    const target = await this.targets.output(index, scope);
    if (!this.#isNormed('down')) {
      return await this.#add(statistics, visit, features, target, steps.output(y, features));
    }
    const divided = dividedByNorm(
      scope,
      this.inputs.model.arch,
      features.dense!,
      steps.mlpProjected(features),
    );
    await this.#add(statistics, visit, divided, target, y);
  }

  /** Whether a norm stands between the projection and the residual stream. */
  #isNormed(projection: Projection): boolean {
    const { model, depth } = this.inputs;
    return Boolean(model.arch.tensorNames.layers[depth]![gainOf[projection]]);
  }

  /** X + M, M the MLP's part before o_proj was touched. */
  async #withMlpAsItWas({ scope, opened }: LayerVisit, input: Tensor, attended: Tensor): Promise<Tensor> {
    const { model, depth } = this.inputs;
    const steps = new LayerSteps(model, depth, opened, scope);
    const y = steps.postAttention(input, attended);
    const sum = scope.tensor(input.shape, 'f32', 'input and MLP');
    add(model.device.recorder, input, steps.mlpOutput(steps.mlpFeatures(y, input)), sum);
    return sum;
  }

  /**
   * Runs the layer with its new weights and replaces its inputs by its outputs.
   *
   * @returns mean |L' - L|² / |L|² over ordinary tokens and over attention sinks, L' the new output.
   */
  async advance(): Promise<{ tokenResidual: number; sinkResidual: number }> {
    const residuals = new RelativeErrors();
    using later = new LaterDownloads(this.inputs.model.device);
    using _tracking = await this.#journal.track('residuals', later.before(residuals));
    await this.#forEach('output', async visit => {
      const { index, batch, scope, steps } = visit;
      const y = this.#tensors.afterAttention[index] ?? (await this.#y(visit));
      const output = steps.output(y, this.#features[index] ?? (await this.#computedFeatures(visit, y)));
      const target = await this.targets.output(index, scope);
      const norms = [rowNormsOf(target), rowNormsOf(difference(scope, target, output))];
      await later.readF32(norms, ([lengths, errors]) =>
        residuals.add(lengths!, errors!, findSinks(lengths!, batch.sequences)),
      );
      this.inputs.replace(index, scope.release(output));
    });
    await later.arrive();
    return { tokenResidual: residuals.ordinary, sinkResidual: residuals.sinks ?? 0 };
  }

  /** Runs all tokens up to Y and what the MLP reads with the weights so far: Y, or X where the branches are parallel. */
  async forEachMlpInput(
    visit: (tensors: { readonly input: Tensor; readonly y: Tensor }, visit: BatchVisit) => Promise<void>,
  ): Promise<void> {
    await this.#forEach('MLP inputs', async batch => {
      const { parallel } = this.inputs.model.arch;
      const { index, scope } = batch;
      const y = await this.#kept('afterAttention', batch, () => this.#y(batch));
      await visit({ input: parallel ? await this.inputs.input(index, scope) : y, y }, batch);
    });
  }

  /** Y with the weights so far. */
  async #y({ index, scope, steps }: LayerVisit): Promise<Tensor> {
    const input = await this.inputs.input(index, scope);
    return steps.postAttention(input, this.#tensors.attended[index] ?? steps.attended(input));
  }

  /** MLP features as an earlier pass kept them, else computed, and kept where there is room. */
  async #featuresOf(visit: LayerVisit, y: Tensor): Promise<MlpFeatures> {
    const { index, scope } = visit;
    const earlier = this.#features[index];
    if (earlier) return earlier;
    const features = await this.#computedFeatures(visit, y);
    if (this.#keepsFeatures) {
      for (const tensor of tensorsOf(features)) this.#scope.own(scope.release(tensor));
      this.#features[index] = features;
    }
    return features;
  }

  /** MLP features: from Y, or from the layer's input where the branches are parallel. */
  async #computedFeatures({ index, scope, steps }: LayerVisit, y: Tensor): Promise<MlpFeatures> {
    const { parallel } = this.inputs.model.arch;
    return steps.mlpFeatures(y, parallel ? await this.inputs.input(index, scope) : y);
  }

  async #forEach(name: string, visit: (visit: LayerVisit) => Promise<void>): Promise<void> {
    const { model, batches, depth, options } = this.inputs;
    await model.loadLayer(depth);
    const weights = { ...model.weights.layers[depth]!, ...this.weights };
    using _section = model.device.section('forward');
    await forEachBatch(model.device, options, `layer ${depth}, ${name}`, batches, batch => {
      const steps = new LayerSteps(model, depth, batch.opened, batch.scope, weights);
      return visit({ ...batch, steps });
    });
  }

  /** The tensor as an earlier pass kept it, else computed, and kept where there is room. */
  async #kept(
    name: Inner,
    { index, scope }: LayerVisit,
    compute: () => Tensor | Promise<Tensor>,
  ): Promise<Tensor> {
    const earlier = this.#tensors[name][index];
    if (earlier) return earlier;
    const tensor = await compute();
    if (this.#keepsStates) this.#tensors[name][index] = this.#scope.own(scope.release(tensor));
    return tensor;
  }

  /** Adds a batch: features, and what `current` lacks to reach `target`. A token counts 1/|target|. */
  async #add(
    statistics: ProjectionSums,
    { batch, opened, scope }: LayerVisit,
    features: Tensor | MlpFeatures,
    target: Tensor,
    current: Tensor,
  ): Promise<void> {
    using _section = scope.device.section('statistics');
    const { sinkWeight = defaultSinkWeight } = this.weighting;
    const roots = rootsOf(scope, target, {
      weight: batch.weight,
      sinks: sinkWeight === 1 ? undefined : { positions: opened.positions, weight: sinkWeight },
    });
    const missing = difference(scope, target, current);
    if (statistics instanceof ExpertStatistics) {
      await statistics.add(batch.half, features as MlpFeatures, missing, roots);
    } else
      await statistics.add(
        batch.half,
        features instanceof Tensor ? features : features.dense!,
        missing,
        roots,
      );
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
