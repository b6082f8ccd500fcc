import { ensure, type Recorder, RmError, Scope, type Tensor } from '../../engine/index.js';
import {
  activationBackward,
  addInto,
  attentionBackward,
  columnSums,
  gatedActivationBackward,
  matmul,
  rowDots,
  scale,
  xieluBackward,
  xieluSlopeBy,
} from '../../kernels/index.js';
import { type Architecture, hasLinearLayers, storedHeadDim } from '../architecture/architecture.js';
import type { Batch } from '../transformer/batch.js';
import { type AttentionStep, LayerSteps } from '../transformer/layerSteps.js';
import type { Model } from '../transformer/model.js';
import { normaliseBackward } from '../transformer/norm.js';
import type { LayerWeights } from '../transformer/weights.js';

/** Name of a layer's weight: 'q', 'down', 'mlpNorm', 'qBias', 'mlpMap' and so on. */
export type LayerWeightName = keyof LayerWeights;

/** Gradients of a layer's weights, f32, in the weights' shapes. Pass a tensor for each you want; results accumulate. */
export type LayerGradients = { readonly [name in LayerWeightName]?: Tensor | undefined };

/** Settings of `layerBackward`. */
interface LayerBackwardOptions {
  /** Weights to use instead of the layer's own. */
  weights?: LayerWeights;
  /** Whether to compute the gradient of the layer's input (default true). */
  inputGradient?: boolean;
}

const MLP_OUTPUT = ['down', 'downBias', 'mlpMap', 'mlpOutNorm', 'residualMap'] as const;
const MLP_INPUT = ['gate', 'up', 'gateBias', 'upBias', 'mlpNorm', 'mlpNormBias', 'alphaP', 'alphaN'] as const;

/**
 * @throws RmError UNSUPPORTED_FAMILY for layers that have no backward pass here: mixtures of experts, linear layers, and
 *   attention with a gate.
 */
export function requireBackward(arch: Architecture): void {
  const { experts, family, tensorNames } = arch;
  if (hasLinearLayers(arch) || tensorNames.layers.some(({ outGate }) => outGate)) {
    throw new RmError(
      'UNSUPPORTED_FAMILY',
      `layers of ${family} models have convolutions or gates, which have no backward pass here`,
      'Use `heal.closedForm`, which needs no gradients.',
    );
  }
  if (!experts) return;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `${family} models are mixtures of experts, whose routers have no backward pass here`,
    'Use `heal.closedForm`, which needs no gradients, or train a model without experts.',
  );
}

/**
 * Runs the backward pass of one layer. It recomputes the activations from the layer's input X [T, hidden] and turns
 * `gradient` [T, hidden] f32 in place from the gradient of the layer's output into that of X. With `inputGradient: false`
 * it stops once the weights' gradients are complete, and the content of `gradient` is then undefined. It frees all its
 * temporaries: at most about 4 [T, intermediate] and 12 [T, hidden].
 *
 * @throws RmError UNSUPPORTED_FAMILY as `requireBackward`; INVALID_ARGUMENT for the gradient of a weight that the layer
 *   does not have or that has another shape, or for a batch with a past or shared prefixes.
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
    batch.places[0]!.past === 0 && !batch.keyRows,
    'a batch with a past or with shared prefixes has no backward pass',
    'Make a batch of whole sequences.',
  );
  for (const [name, tensor] of Object.entries(gradients)) {
    const weight = weights[name as LayerWeightName];
    ensure(
      tensor === undefined || (weight !== undefined && `${weight.shape}` === `${tensor.shape}`),
      `layer ${layer}: the gradient of '${name}' is [${tensor?.shape}], its weight is ${weight ? `[${weight.shape}]` : 'missing'}`,
      'Pass gradients for weights that the layer has, in their shapes.',
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
    const needsAttention = inputGradient || this.#trainsBeyond([...MLP_OUTPUT, ...MLP_INPUT]);
    const mlpInput = parallel ? input : y;
    // With parallel branches the MLP's part belongs to X, not to Y: it is added at the end.
    const mlpPart =
      parallel && inputGradient ? scope.tensor(input.shape, 'f32', 'gradient of the MLP') : undefined;
    const deeper = (parallel ? inputGradient : needsAttention) || this.#trains(MLP_INPUT);
    this.#mlp(y, mlpInput, gradient, mlpPart, deeper);
    if (!needsAttention) return;
    this.#attention(steps, scope, attention, input, gradient, inputGradient);
    if (mlpPart) addInto(this.#rec, gradient, mlpPart);
  }

  #trains(names: readonly LayerWeightName[]): boolean {
    return names.some(name => this.gradients[name]);
  }

  /** Whether any weight besides these needs a gradient. */
  #trainsBeyond(names: readonly LayerWeightName[]): boolean {
    const entries = Object.entries(this.gradients) as [LayerWeightName, Tensor | undefined][];
    return entries.some(([name, tensor]) => tensor && !names.includes(name));
  }

  /**
   * Goes from the layer's output to the MLP's input: `gradient` becomes that of Y. With `part`, the MLP's share goes into
   * `part` instead.
   */
  #mlp(y: Tensor, input: Tensor, gradient: Tensor, part: Tensor | undefined, deeper: boolean): void {
    const { model, weights } = this;
    const { intermediate, activation } = model.arch;
    using scope = new Scope(model.device);
    const steps = new LayerSteps(model, this.layer, this.batch, scope, weights);
    // If only down's gradient needs the features, the backward kernel of gate and up returns them.
    const early =
      weights.mlpOutNorm || this.#trains(['residualMap', 'mlpMap', ...(deeper ? [] : (['down'] as const))]);
    const features = early ? steps.mlpFeatures(y, input).dense : undefined;
    this.#residualMap(steps, scope, y, features, gradient);
    const projected = this.#branch(scope, gradient, weights.mlpOutNorm, 'mlpOutNorm', () =>
      steps.mlpProjected({ dense: features! }),
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
    if (gate && activation !== 'xielu')
      gatedActivationBackward(this.#rec, gate, up, slopes, { activation, features: late });
    else if (activation === 'xielu') this.#xielu(up, slopes, late);
    else activationBackward(this.#rec, up, slopes, { activation, features: late });
    if (late) this.#weight('down', output, late);
    const entering = scope.tensor(input.shape, 'f32', 'gradient of the normed input');
    if (gate) this.#linear('gate', 'gateBias', normed, gate, entering, false);
    this.#linear('up', 'upBias', normed, up, entering, gate !== undefined);
    const target = part ?? (model.arch.parallel ? scope.tensor(input.shape) : gradient);
    this.#norm(input, ['mlpNorm', 'mlpNormBias'], entering, target, target === gradient);
  }

  /** Goes through xIELU: accumulates the gradients of its parameters; `x`, its input, becomes its gradient. */
  #xielu(x: Tensor, slopes: Tensor, features: Tensor | undefined): void {
    const { alphaP, alphaN } = this.weights;
    const parameters = { alphaP: alphaP!, alphaN: alphaN! };
    for (const name of ['alphaP', 'alphaN'] as const) {
      const target = this.gradients[name];
      if (!target) continue;
      using held = new Scope(this.model.device);
      const slope = held.tensor(x.shape, 'f32', `slope by ${name}`);
      const sums = held.tensor([x.rowCount], 'f32', `sums for ${name}`);
      xieluSlopeBy(this.#rec, name, x, parameters, slope);
      rowDots(this.#rec, slopes, slope, sums);
      columnSums(this.#rec, sums.reshape([x.rowCount, 1]), target, { accumulate: true });
    }
    xieluBackward(this.#rec, x, slopes, parameters, features);
  }

  /** Goes through the map of the residual stream: `gradient` becomes that of L = Y + M. */
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
      matmul(this.#rec, steps.output(y, { dense: features! }), before, mapGradient, {
        transposeA: true,
        accumulate: true,
      });
    }
    matmul(this.#rec, before, residualMap, gradient, { transposeB: true });
  }

  /** Goes through ReplaceMe's T: from the gradient of T's output to the gradient of down_proj's output. */
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

  /** Goes from Y to X: `gradient` becomes that of X, without the MLP's part if branches are parallel. */
  #attention(
    steps: LayerSteps,
    scope: Scope,
    step: AttentionStep,
    input: Tensor,
    gradient: Tensor,
    inputGradient: boolean,
  ): void {
    const { weights } = this;
    const { arch } = this.model;
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
    if (!inputGradient && !this.#trains(below)) return;
    const attended = scope.tensor(step.attended.shape, 'f32', 'gradient of attended');
    matmul(this.#rec, projected, weights.o, attended);
    const slopes = {
      q: scope.tensor(step.q.shape, 'f32', 'gradient of q'),
      k: scope.tensor(step.keys.shape, 'f32', 'gradient of k'),
      v: scope.tensor(step.values.shape, 'f32', 'gradient of v'),
    };
    const tensors = { q: step.q, k: step.keys, v: step.values, ranges: step.ranges, out: step.out };
    attentionBackward(this.#rec, tensors, steps.widened(attended, heads, headDim), slopes, step.options);
    const early = arch.qkNorm === 'rotated head';
    if (!early) steps.turn(slopes.q, slopes.k, { headDim, transpose: true });
    const entering = scope.tensor(input.shape, 'f32', 'gradient of the normed input');
    const q = this.#heads(steps, scope, 'qNorm', step.projectedQ, steps.grown(slopes.q), heads);
    const k = this.#heads(steps, scope, 'kNorm', step.projectedK, slopes.k, kvHeads);
    if (early) steps.turn(q, k, { headDim: arch.headDim, transpose: true });
    const v = steps.widened(slopes.v, kvHeads, arch.headDim);
    this.#linear('q', 'qBias', step.normed, q, entering, false);
    this.#linear('k', 'kBias', step.normed, k, entering, true);
    this.#linear('v', 'vBias', step.normed, v, entering, true);
    this.#norm(input, ['inputNorm', 'inputNormBias'], entering, gradient, true);
  }

  /** Goes from queries or keys as attention reads them, through their norm, to the output of their projection. */
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
    const rows = arch.qkNorm === 'projection' ? projected.shape : [projected.rowCount * heads, arch.headDim];
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

  /** Goes from what the layer adds to the residual stream back to the output of the projection. */
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

  /** Goes through x Wᵀ + bias: accumulates the gradients of both, and `entering` (+)= gradient W. */
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

  /** Goes through a norm of x, if there is one: target (+)= the gradient of x. */
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
