import { RmError, Scope, Tensor } from '../../engine/index.js';
import type { Architecture, LayerWeights, Model } from '../../model/index.js';
import type { Window } from '../run/window.js';
import { weightedSum } from './weightedSum.js';

/**
 * How layers merge into one. "paper": theta_l + sum over k of (theta_{l+k} - theta_l), LaCo's equation. "released": the
 * authors' notebook (laco_llama-13b.ipynb) subtracts the running sum instead of theta_l, which leaves the weights of the
 * last removed layer.
 */
export type MergeRule = 'paper' | 'released';

/** Whether these layers all have attention or none, and all have experts or none. */
export const haveOneKind = ({ linear, tensorNames }: Architecture, layers: readonly number[]): boolean =>
  new Set(layers.map(layer => `${linear[layer]?.kind} ${tensorNames.layers[layer]!.router === null}`)).size <=
  1;

/**
 * Merges the layer before a window and the removed layers into one: all weights, including norms and biases. The caller
 * disposes them.
 *
 * @throws RmError UNSUPPORTED_FAMILY for layers of different kinds.
 *
 * Source: LaCo (Reserving-Differences-while-Seeking-Common), arXiv:2402.11187.
 */
export function mergedLayer(model: Model, { layer, count }: Window, rule: MergeRule): Partial<LayerWeights> {
  const { layers } = model.weights;
  const merged = Array.from({ length: count + 1 }, (_, n) => layer + n);
  if (!haveOneKind(model.arch, merged)) {
    throw new RmError(
      'UNSUPPORTED_FAMILY',
      `layers ${layer} to ${layer + count} of a ${model.arch.family} model are of different kinds and cannot be merged`,
      'Choose another selection or method, or layers of one kind.',
    );
  }
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
