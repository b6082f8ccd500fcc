import { Scope, Tensor } from '../../engine/index.js';
import type { LayerWeights, Model } from '../../model/index.js';
import type { Window } from '../run/window.js';
import { weightedSum } from './weightedSum.js';

/**
 * How layers merge into one. "paper": theta_l + sum over k of (theta_{l+k} - theta_l), LaCo's equation. "released": the
 * authors' notebook (laco_llama-13b.ipynb) subtracts the running sum instead of theta_l, which leaves the weights of the
 * last removed layer.
 */
export type MergeRule = 'paper' | 'released';

/**
 * Merges the layer before a window and the removed layers into one: all weights, including norms and biases. The caller
 * disposes them.
 *
 * Source: LaCo (Reserving-Differences-while-Seeking-Common), arXiv:2402.11187.
 */
export function mergedLayer(model: Model, { layer, count }: Window, rule: MergeRule): Partial<LayerWeights> {
  const { layers } = model.weights;
  using scope = new Scope(model.device);
  const entries = Object.entries(layers[layer]!).flatMap(([key, kept]) => {
    if (!(kept instanceof Tensor)) return [];
    const removed = layers
      .slice(layer + 1, layer + 1 + count)
      .map(weights => weights[key as keyof LayerWeights]!);
    const terms =
      rule === 'paper'
        ? [[1 - count, kept] as const, ...removed.map(tensor => [1, tensor] as const)]
        : [[1, removed.at(-1)!] as const];
    return [[key, weightedSum(scope, terms)]];
  });
  scope.releaseAll();
  return Object.fromEntries(entries) as Partial<LayerWeights>;
}
