import { ensure, type Recorder, RmError, Scope, type Tensor } from '../../engine/index.js';
import {
  activationBackward,
  addInto,
  attentionBackward,
  columnSums,
  gatedActivationBackward,
  matmul,
  rope,
  scale,
} from '../../kernels/index.js';
import { type Architecture, storedHeadDim } from '../architecture/architecture.js';
import type { Batch } from '../transformer/batch.js';
import { type AttentionStep, LayerSteps } from '../transformer/layerSteps.js';
import type { Model } from '../transformer/model.js';
import { normaliseBackward } from '../transformer/norm.js';
import type { LayerWeights } from '../transformer/weights.js';

/** A layer's weights by name: 'q', 'down', 'mlpNorm', 'qBias', 'mlpMap' and so on. */
export type LayerWeightName = keyof LayerWeights;

/** Gradients of a layer's weights, f32, each of its weight's shape; they are added to. What is absent is not computed. */
export type LayerGradients = { readonly [name in LayerWeightName]?: Tensor | undefined };

/** Settings of `layerBackward`. */
export interface LayerBackwardOptions {
  /** As in LayerSteps: the layer's own, or others that take their place. */
  weights?: LayerWeights;
  /** Whether the gradient by the layer's input is needed; default true. */
  inputGradient?: boolean;
}

const MLP_OUTPUT = ['down', 'downBias', 'mlpMap', 'mlpOutNorm', 'residualMap'] as const;
const MLP_INPUT = ['gate', 'up', 'gateBias', 'upBias', 'mlpNorm', 'mlpNormBias'] as const;

/** @throws RmError UNSUPPORTED_FAMILY for a model that cannot be trained: there is no gradient of the choice of experts. */
export function requireBackward({ experts, family }: Architecture): void {
  if (!experts) return;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `${family} models are mixtures of experts, whose routers have no backward pass here`,
    'Heal by --heal closed-form, which needs no gradients, or train a model without experts.',
  );
}

/**
 * The backward pass of one layer. Its activations are computed again from its input X [T, hidden]; `gradient`
 * [T, hidden] f32, that of the loss by the layer's output, becomes that by X, in place. With `inputGradient: false` it
 * ends when the weights' gradients are complete, and `gradient` is then undefined. Everything else it allocates is gone
 * afterwards: at most about 4 [T, intermediate] and 12 [T, hidden].
 *
 * @throws RmError UNSUPPORTED_FAMILY as `requireBackward`, INVALID_ARGUMENT for gradients of weights that the layer does not have, of another shape, or for a batch
 *   with a past or shared beginnings.
 */
export function layerBackward(
  model: Model,
  layer: number,
  batch: Batch,
  input: Tensor,
  gradient: Tensor,
  gradients: LayerGradients,
  options: LayerBackwardOptions = {},
): void {
  const { weights = model.weights.layers[layer]!, inputGradient = true } = options;
  requireBackward(model.arch);
  ensure(
    batch.past === 0 && !batch.keyRows,
    'a batch with a past or with shared beginnings has no backward pass',
    'Make a batch of whole sequences.',
  );
  for (const [name, tensor] of Object.entries(gradients)) {
    const weight = weights[name as LayerWeightName];
    ensure(
      tensor === undefined || (weight !== undefined && `${weight.shape}` === `${tensor.shape}`),
      `gradient of '${name}' [${tensor?.shape}] of layer ${layer}, whose weight is ${weight ? `[${weight.shape}]` : 'not there'}`,
      'Ask for gradients of the weights that the layer has, in their shapes.',
    );
  }
  new LayerBackward(model, layer, batch, weights, gradients).run(input, gradient, inputGradient);
}

class LayerBackward {
  readonly #rec: Recorder;

  constructor(
    private readonly model: Model,
    private readonly layer: number,
    private readonly batch: Batch,
    private readonly weights: LayerWeights,
    private readonly gradients: LayerGradients,
  ) {
    this.#rec = model.device.recorder;
  }

  run(input: Tensor, gradient: Tensor, inputGradient: boolean): void {
    const { model, layer, batch, weights } = this;
    const { parallel } = model.arch;
    using scope = new Scope(model.device);
    const steps = new LayerSteps(model, layer, batch, scope, weights);
    const attention = steps.attention(input);
    const y = steps.postAttention(input, attention.attended);
    const attentionAsked = inputGradient || this.#asksBeyond([...MLP_OUTPUT, ...MLP_INPUT]);
    const mlpInput = parallel ? input : y;
    // Where branches are parallel the MLP's part belongs to X, not to Y: it is added at the end.
    const mlpPart =
      parallel && inputGradient ? scope.tensor(input.shape, 'f32', 'gradient of the MLP') : undefined;
    const deeper = (parallel ? inputGradient : attentionAsked) || this.#asks(MLP_INPUT);
    this.#mlp(y, mlpInput, gradient, mlpPart, deeper);
    if (!attentionAsked) return;
    this.#attention(steps, scope, attention, input, gradient, inputGradient);
    if (mlpPart) addInto(this.#rec, gradient, mlpPart);
  }

  #asks(names: readonly LayerWeightName[]): boolean {
    return names.some(name => this.gradients[name]);
  }

  /** Whether gradients of weights are asked for that are none of these. */
  #asksBeyond(names: readonly LayerWeightName[]): boolean {
    const entries = Object.entries(this.gradients) as [LayerWeightName, Tensor | undefined][];
    return entries.some(([name, tensor]) => tensor && !names.includes(name));
  }

  /**
   * From the layer's output to the MLP's input: `gradient` becomes that by Y, or, with `part`, that by Y without the MLP's
   * part, which goes there.
   */
  #mlp(y: Tensor, input: Tensor, gradient: Tensor, part: Tensor | undefined, deeper: boolean): void {
    const { model, weights } = this;
    const { intermediate, activation } = model.arch;
    using scope = new Scope(model.device);
    const steps = new LayerSteps(model, this.layer, this.batch, scope, weights);
    // Where down's gradient alone needs them, they come with those of gate and up.
    const early =
      weights.mlpOutNorm || this.#asks(['residualMap', 'mlpMap', ...(deeper ? [] : (['down'] as const))]);
    const features = early ? steps.mlpFeatures(y, input) : undefined;
    this.#residualMap(steps, scope, y, features, gradient);
    const projected = this.#branch(scope, gradient, weights.mlpOutNorm, 'mlpOutNorm', () =>
      steps.mlpProjected(features!),
    );
    const output = this.#map(steps, scope, features, projected);
    this.#bias('downBias', output);
    if (features) this.#weight('down', output, features);
    if (!deeper) return;
    const normed = steps.normed(input, weights.mlpNorm, weights.mlpNormBias);
    const gate = weights.gate && steps.linear(normed, weights.gate, weights.gateBias);
    const up = steps.linear(normed, weights.up, weights.upBias);
    const wide = [y.rowCount, intermediate];
    const slopes = scope.tensor(wide, 'f32', 'gradient of mlp features');
    matmul(this.#rec, output, weights.down, slopes);
    const late = !features && this.gradients.down ? scope.tensor(wide, 'f32', 'mlp features') : undefined;
    if (gate) gatedActivationBackward(this.#rec, gate, up, slopes, { activation, features: late });
    else activationBackward(this.#rec, up, slopes, { activation, features: late });
    if (late) this.#weight('down', output, late);
    const entering = scope.tensor(input.shape, 'f32', 'gradient of the normed input');
    if (gate) this.#linear('gate', 'gateBias', normed, gate, entering, false);
    this.#linear('up', 'upBias', normed, up, entering, gate !== undefined);
    const target = part ?? (model.arch.parallel ? scope.tensor(input.shape) : gradient);
    this.#norm(input, ['mlpNorm', 'mlpNormBias'], entering, target, target === gradient);
  }

  /** Through the map of the residual stream: `gradient` becomes that by L = Y + M. */
  #residualMap(
    steps: LayerSteps,
    scope: Scope,
    y: Tensor,
    features: Tensor | undefined,
    gradient: Tensor,
  ): void {
    const { residualMap } = this.weights;
    if (!residualMap) return;
    const before = scope.tensor(gradient.shape, 'f32', 'gradient before the map');
    this.#rec.copy(gradient, before);
    const { residualMap: mapGradient } = this.gradients;
    if (mapGradient) {
      matmul(this.#rec, steps.output(y, features!), before, mapGradient, {
        transposeA: true,
        accumulate: true,
      });
    }
    matmul(this.#rec, before, residualMap, gradient, { transposeB: true });
  }

  /** Through ReplaceMe's T: the gradient by what down_proj gives, of that by what T makes of it. */
  #map(steps: LayerSteps, scope: Scope, features: Tensor | undefined, mapped: Tensor): Tensor {
    const { mlpMap } = this.weights;
    if (!mlpMap) return mapped;
    const { mlpMap: mapGradient } = this.gradients;
    if (mapGradient) {
      const { down, downBias } = this.weights;
      const output = steps.linear(features!, down, downBias);
      matmul(this.#rec, output, mapped, mapGradient, { transposeA: true, accumulate: true });
    }
    const gradient = scope.tensor(mapped.shape, 'f32', 'gradient of the MLP output');
    matmul(this.#rec, mapped, mlpMap, gradient, { transposeB: true });
    return gradient;
  }

  /** From Y to X: `gradient` becomes that by X, without the MLP's part where branches are parallel. */
  #attention(
    steps: LayerSteps,
    scope: Scope,
    step: AttentionStep,
    input: Tensor,
    gradient: Tensor,
    inputGradient: boolean,
  ): void {
    const { model, weights, batch } = this;
    const { arch } = model;
    const { heads, kvHeads } = arch;
    const headDim = storedHeadDim(arch);
    const projected = this.#branch(scope, gradient, weights.attentionOutNorm, 'attentionOutNorm', () =>
      steps.linear(step.attended, weights.o, weights.oBias),
    );
    this.#weight('o', projected, step.attended);
    this.#bias('oBias', projected);
    const below = [
      'q',
      'k',
      'v',
      'qBias',
      'kBias',
      'vBias',
      'qNorm',
      'kNorm',
      'inputNorm',
      'inputNormBias',
    ] as const;
    if (!inputGradient && !this.#asks(below)) return;
    const attended = scope.tensor(step.attended.shape, 'f32', 'gradient of attended');
    matmul(this.#rec, projected, weights.o, attended);
    const slopes = {
      q: scope.tensor(step.q.shape, 'f32', 'gradient of q'),
      k: scope.tensor(step.keys.shape, 'f32', 'gradient of k'),
      v: scope.tensor(step.values.shape, 'f32', 'gradient of v'),
    };
    const tensors = { q: step.q, k: step.keys, v: step.values, ranges: step.ranges, out: step.out };
    attentionBackward(this.#rec, tensors, steps.widened(attended, heads, headDim), slopes, step.options);
    const kind = arch.layerRope[this.layer] ?? null;
    if (kind !== null) {
      const { table, positions } = model.rotations.of(kind, batch);
      rope(this.#rec, slopes.q, slopes.k, positions, table, { headDim, transpose: true });
    }
    const entering = scope.tensor(input.shape, 'f32', 'gradient of the normed input');
    const q = this.#heads(steps, scope, 'qNorm', step.projectedQ, slopes.q, heads);
    const k = this.#heads(steps, scope, 'kNorm', step.projectedK, slopes.k, kvHeads);
    const v = steps.widened(slopes.v, kvHeads, arch.headDim);
    this.#linear('q', 'qBias', step.normed, q, entering, false);
    this.#linear('k', 'kBias', step.normed, k, entering, true);
    this.#linear('v', 'vBias', step.normed, v, entering, true);
    this.#norm(input, ['inputNorm', 'inputNormBias'], entering, gradient, true);
  }

  /** From queries or keys as attention reads them to what their projection gave, through their norm. */
  #heads(
    steps: LayerSteps,
    scope: Scope,
    name: 'qNorm' | 'kNorm',
    projected: Tensor,
    slopes: Tensor,
    heads: number,
  ): Tensor {
    const { arch } = this.model;
    const gradient = steps.widened(slopes, heads, arch.headDim);
    if (!this.weights[name]) return gradient;
    const rows = arch.qkNorm === 'head' ? [projected.rowCount * heads, arch.headDim] : projected.shape;
    const before = scope.tensor(projected.shape, 'f32', `gradient before ${name}`);
    this.#norm(
      projected.reshape(rows),
      [name, undefined],
      gradient.reshape(rows),
      before.reshape(rows),
      false,
    );
    return before;
  }

  /** The gradient by what a projection gave, of that by what the layer adds to the residual stream. */
  #branch(
    scope: Scope,
    gradient: Tensor,
    outNorm: Tensor | undefined,
    name: 'mlpOutNorm' | 'attentionOutNorm',
    projected: () => Tensor,
  ): Tensor {
    const { residualScale } = this.model.arch;
    let branch = gradient;
    if (residualScale !== 1) {
      branch = scope.tensor(gradient.shape, 'f32', 'gradient of the branch');
      this.#rec.copy(gradient, branch);
      scale(this.#rec, branch, residualScale);
    }
    if (!outNorm) return branch;
    const before = scope.tensor(gradient.shape, 'f32', `gradient before ${name}`);
    this.#norm(projected(), [name, undefined], branch, before, false);
    return before;
  }

  /** Of x Wᵀ + bias: the gradients of both, and `entering` (+)= gradient W. */
  #linear(
    name: LayerWeightName,
    biasName: LayerWeightName,
    x: Tensor,
    gradient: Tensor,
    entering: Tensor,
    accumulate: boolean,
  ): void {
    this.#weight(name, gradient, x);
    this.#bias(biasName, gradient);
    matmul(this.#rec, gradient, this.weights[name]!, entering, { accumulate });
  }

  #weight(name: LayerWeightName, gradient: Tensor, x: Tensor): void {
    const target = this.gradients[name];
    if (target) matmul(this.#rec, gradient, x, target, { transposeA: true, accumulate: true });
  }

  #bias(name: LayerWeightName, gradient: Tensor): void {
    const target = this.gradients[name];
    if (target) columnSums(this.#rec, gradient, target, { accumulate: true });
  }

  /** Through a norm of x, or where there is none, straight on: target (+)= the gradient by x. */
  #norm(
    x: Tensor,
    [gain, bias]: readonly [LayerWeightName, LayerWeightName | undefined],
    gradient: Tensor,
    target: Tensor,
    accumulate: boolean,
  ): void {
    const weight = this.weights[gain];
    if (weight) {
      normaliseBackward(this.#rec, this.model.arch.norm, x, weight, gradient, target, {
        accumulate,
        weightGradient: this.gradients[gain],
        biasGradient: bias && this.gradients[bias],
      });
    } else if (accumulate) addInto(this.#rec, target, gradient);
    else this.#rec.copy(gradient, target);
  }
}
