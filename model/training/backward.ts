import { ensure, Scope, type Tensor } from '../../engine/index.js';
import { embeddingBackward, scale } from '../../kernels/index.js';
import type { Batch } from '../transformer/batch.js';
import type { Model } from '../transformer/model.js';
import { embedTokens, forward } from '../transformer/transformer.js';
import type { LayerWeights } from '../transformer/weights.js';
import { type HeadGradients, headLoss, type Objective } from './headLoss.js';
import {
  type LayerGradients,
  type LayerWeightName,
  layerBackward,
  requireBackward,
} from './layerBackward.js';

/**
 * Gradients of a model's weights, f32, each of its weight's shape; they are added to, and what is absent is not
 * computed. Of tied embeddings the gradient is that of both uses: pass one tensor as `embedding` and `lmHead`.
 */
export interface ModelGradients extends Omit<HeadGradients, 'hidden'> {
  /** By layer, as the model counts them. */
  readonly layers: ReadonlyMap<number, LayerGradients>;
  readonly embedding?: Tensor | undefined;
}

/** Where the forward pass begins. */
export interface StartOptions {
  /** First layer to run (default 0) and, if not 0, its input [T, hidden]. */
  from?: number;
  input?: Tensor;
}

/** Tensors of zeros, in `scope`, for the gradients of these weights of a layer. */
export function createLayerGradients(
  scope: Scope,
  weights: LayerWeights,
  names: readonly LayerWeightName[],
): LayerGradients {
  const cleared = (name: LayerWeightName): [LayerWeightName, Tensor] => {
    const tensor = scope.tensor(weights[name]!.shape, 'f32', `gradient of ${name}`);
    scope.device.recorder.clear(tensor);
    return [name, tensor];
  };
  return Object.fromEntries(names.map(cleared));
}

/** The lowest layer that a backward pass must visit; -1 is the embedding, Infinity nothing below the head. */
const lowestOf = ({ layers, embedding }: ModelGradients): number => {
  if (embedding) return -1;
  const asked = [...layers].filter(([, gradients]) => Object.values(gradients).some(Boolean));
  return Math.min(...asked.map(([layer]) => layer));
};

/**
 * Forward, loss and backward. Writes the loss of every token (loss [T] f32, nats, as if its weight were 1) and adds the
 * gradients of the sum of weights[t] loss[t]; weights [T] f32 carry mask and mean. Of the forward pass only the inputs of
 * the layers that the backward pass visits are kept, [T, hidden] each; it goes from the top down to the lowest weight
 * that a gradient is asked for, computing each layer's activations again.
 *
 * @throws RmError UNSUPPORTED_FAMILY as `requireBackward`, INVALID_ARGUMENT when a gradient is asked for below `from`, or shapes do not fit.
 */
export function lossAndGradients(
  model: Model,
  batch: Batch,
  objective: Objective,
  weights: Tensor,
  loss: Tensor,
  gradients: ModelGradients,
  { from = 0, input }: StartOptions = {},
): void {
  const { device, arch } = model;
  requireBackward(arch);
  const lowest = lowestOf(gradients);
  ensure(
    lowest >= from || (lowest === -1 && from === 0 && !input),
    `gradients are asked for below layer ${from}, where the forward pass begins`,
    'Begin at the lowest weight that is trained, or below it.',
  );
  using scope = new Scope(device);
  const inputs = new Map<number, Tensor>();
  let hidden = input ?? embedTokens(model, batch);
  for (let layer = from; layer < arch.layers; layer++) {
    const before = hidden;
    hidden = forward(model, batch, { from: layer, to: layer + 1, input: before });
    if (layer >= lowest) inputs.set(layer, before);
    if (before === input) continue;
    if (layer >= lowest) scope.own(before);
    else before.dispose();
  }
  if (hidden !== input) scope.own(hidden);
  const { finalNorm, finalNormBias, lmHead } = gradients;
  const gradient =
    lowest < arch.layers ? scope.tensor(hidden.shape, 'f32', 'gradient of the states') : undefined;
  headLoss(model, hidden, objective, weights, loss, { hidden: gradient, finalNorm, finalNormBias, lmHead });
  if (!gradient) return;
  for (let layer = arch.layers - 1; layer >= Math.max(0, lowest); layer--) {
    const asked = gradients.layers.get(layer) ?? {};
    layerBackward(model, layer, batch, inputs.get(layer)!, gradient, asked, {
      inputGradient: layer > lowest,
    });
  }
  if (!gradients.embedding) return;
  if (arch.embeddingScale !== 1) scale(device.recorder, gradient, arch.embeddingScale);
  embeddingBackward(device.recorder, batch.ids, gradient, gradients.embedding);
}
