import { Scope, Tensor } from '../engine/index.js';
import type { LayerWeights, Model } from '../model/model.js';
import { weightedSum } from './weightedSum.js';
import type { Window } from './window.js';

/**
 * The layer that stays before a window with the differences of the removed layers added to it, in all of its weights,
 * norms and biases included: theta_l + sum over k of (theta_{l+k} - theta_l). The caller disposes the new weights.
 *
 * Source: LaCo (Reserving-Differences-while-Seeking-Common), arXiv:2402.11187. The authors' notebook subtracts the
 * running sum in place of theta_l, which leaves the weights of the last removed layer; this is the paper's equation.
 */
export function mergedLayer(model: Model, { layer, count }: Window): Partial<LayerWeights> {
  const { layers } = model.weights;
  using scope = new Scope(model.device);
  const entries = Object.entries(layers[layer]!).flatMap(([key, kept]) => {
    if (!(kept instanceof Tensor)) return [];
    const removed = layers
      .slice(layer + 1, layer + 1 + count)
      .map(weights => weights[key as keyof LayerWeights]!);
    const terms = removed.map(tensor => [1, tensor] as const);
    return [[key, weightedSum(scope, [[1 - count, kept], ...terms])]];
  });
  scope.releaseAll();
  return Object.fromEntries(entries) as Partial<LayerWeights>;
}
