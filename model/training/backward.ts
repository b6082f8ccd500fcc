import {
  checkArguments,
  ensure,
  ensureTensor,
  instanceOf,
  listOf,
  objectWith,
  optional,
  record,
  Scope,
  Tensor,
  text,
  whole,
} from '../../engine/index.js';
import { embeddingBackward, scale } from '../../kernels/index.js';
import { aBatch, aModel, settingsAmong } from '../arguments/forms.js';
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
 * Gradients of a model's weights, f32, in the weights' shapes. Pass a tensor for each gradient you want; results
 * accumulate into it. For tied embeddings pass one tensor as both `embedding` and `lmHead`.
 */
export interface ModelGradients extends Omit<HeadGradients, 'hidden'> {
  /** By layer, as the model counts them. */
  readonly layers: ReadonlyMap<number, LayerGradients>;
  readonly embedding?: Tensor | undefined;
}

/** Where the forward pass of `lossAndGradients` begins. */
export interface StartOptions {
  /** First layer to run (default 0) and, if not 0, its input [T, hidden]. */
  from?: number;
  input?: Tensor;
}

/** Creates zeroed gradient tensors for the named weights of a layer, owned by `scope`. */
export function createLayerGradients(
  scope: Scope,
  weights: LayerWeights,
  names: readonly LayerWeightName[],
): LayerGradients {
  checkArguments(
    'createLayerGradients',
    { scope, weights, names },
    { scope: instanceOf(Scope, 'a scope'), weights: objectWith('weights of a layer'), names: listOf(text) },
  );
  for (const name of names) ensureTensor(weights[name], `createLayerGradients: weight '${name}'`);
  const cleared = (name: LayerWeightName): [LayerWeightName, Tensor] => {
    const tensor = scope.tensor(weights[name]!.shape, 'f32', `gradient of ${name}`);
    scope.device.recorder.clear(tensor);
    return [name, tensor];
  };
  return Object.fromEntries(names.map(cleared));
}

const aTensor = instanceOf(Tensor, 'a tensor');
const lossArguments = {
  model: aModel,
  batch: aBatch,
  objective: objectWith('an objective'),
  weights: aTensor,
  loss: aTensor,
  gradients: record({ layers: instanceOf(Map, 'a Map'), embedding: optional(aTensor) }),
  options: settingsAmong<StartOptions>({ from: optional(whole()), input: optional(aTensor) }),
};

/** The lowest layer that the backward pass must visit: -1 for the embedding, Infinity for nothing below the head. */
const lowestOf = ({ layers, embedding }: ModelGradients): number => {
  if (embedding) return -1;
  const trained = [...layers].filter(([, gradients]) => Object.values(gradients).some(Boolean));
  return Math.min(...trained.map(([layer]) => layer));
};

/**
 * Runs a training step without the optimiser: forward, loss and backward. Writes the loss of every token (loss [T] f32,
 * nats, unweighted) and accumulates the gradients of sum over t of weights[t] loss[t]; weights [T] f32 carry mask and
 * mean. The forward pass keeps only the inputs [T, hidden] of the layers that the backward pass visits; the backward pass
 * goes down to the lowest trained weight and recomputes each layer's activations.
 *
 * @throws RmError UNSUPPORTED_FAMILY as `requireBackward`; INVALID_ARGUMENT for a gradient below `from` or shapes that do
 *   not match.
 */
export function lossAndGradients(
  model: Model,
  batch: Batch,
  objective: Objective,
  weights: Tensor,
  loss: Tensor,
  gradients: ModelGradients,
  options: StartOptions = {},
): void {
  checkArguments(
    'lossAndGradients',
    { model, batch, objective, weights, loss, gradients, options },
    lossArguments,
  );
  const { from = 0, input } = options;
  const { device, arch } = model;
  requireBackward(arch);
  const lowest = lowestOf(gradients);
  ensure(
    lowest >= from || (lowest === -1 && from === 0 && !input),
    `a gradient is requested below layer ${from}, where the forward pass begins`,
    'Begin at the lowest trained weight, or below it.',
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
  const { finalNorm, finalNormBias, lmHead, lmHeadBias } = gradients;
  const gradient =
    lowest < arch.layers ? scope.tensor(hidden.shape, 'f32', 'gradient of the states') : undefined;
  headLoss(model, hidden, objective, weights, loss, {
    ...{ hidden: gradient, finalNorm, finalNormBias, lmHead, lmHeadBias },
  });
  if (!gradient) return;
  for (let layer = arch.layers - 1; layer >= Math.max(0, lowest); layer--) {
    const layerGradients = gradients.layers.get(layer) ?? {};
    layerBackward(model, layer, batch, inputs.get(layer)!, gradient, layerGradients, {
      inputGradient: layer > lowest,
    });
  }
  if (!gradients.embedding) return;
  if (arch.embeddingScale !== 1) scale(device.recorder, gradient, arch.embeddingScale);
  embeddingBackward(device.recorder, batch.ids, gradient, gradients.embedding);
}
