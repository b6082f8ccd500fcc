import { type DType, Scope, type Tensor } from '../engine/index.js';
import { convert } from '../kernels/convert.js';
import type { LayerWeights, Model, WeightChanges, Weights } from '../model/model.js';
import { keptLayers, type Window } from './window.js';

/**
 * The model that a method has made, in memory: the layers that stay with their new weights in the checkpoint's dtype,
 * the same numbers that go into the file. It takes over the tensors of `changes` and shares all others with `model`,
 * which must outlive it.
 */
export class PrunedModel {
  readonly model: Model;
  /** The layers that stay, by their old index. */
  readonly keep: readonly number[];
  /** New values of the checkpoint's tensors, by name. */
  readonly replacements = new Map<string, Tensor>();
  readonly #scope: Scope;

  constructor(original: Model, windows: readonly Window[], changes: WeightChanges) {
    const { tensorNames, layers } = original.arch;
    this.#scope = new Scope(original.device);
    const { layers: changedLayers = new Map<number, Partial<LayerWeights>>(), ...outer } = changes;
    for (const weights of [...changedLayers.values(), outer]) {
      for (const tensor of Object.values(weights)) if (tensor) this.#scope.own(tensor);
    }
    try {
      const changed = new Map(
        [...changedLayers].map(([layer, weights]) => [
          layer,
          this.#stored<LayerWeights>(original, tensorNames.layers[layer]!, weights),
        ]),
      );
      this.keep = keptLayers(windows, layers);
      this.model = original.withLayers(this.keep, {
        layers: changed,
        ...this.#stored<Omit<Weights, 'layers'>>(original, tensorNames, outer),
      });
    } catch (error) {
      this.#scope.dispose();
      throw error;
    }
  }

  /** Weights rounded to the checkpoint's dtype; what the checkpoint has no name for stays as it is. */
  #stored<W>(model: Model, names: object, weights: Partial<W>): Partial<W> {
    const { recorder } = model.device;
    const entries = Object.entries(weights as Record<string, Tensor | undefined>).map(([key, fresh]) => {
      const name = (names as Record<string, string | null>)[key];
      if (!fresh || !name) return [key, fresh] as const;
      const stored = this.#rounded(fresh, name, model.typeOf(name));
      if (!key.endsWith('Bias') || stored.dtype === 'f32') return [key, stored] as const;
      // Models hold biases in f32.
      const widened = this.#scope.tensor(stored.shape, 'f32', name);
      convert(recorder, stored, widened);
      return [key, widened] as const;
    });
    return Object.fromEntries(entries) as Partial<W>;
  }

  #rounded(fresh: Tensor, name: string, dtype: DType): Tensor {
    // Tied embeddings are one tensor under two keys.
    const known = this.replacements.get(name);
    if (known) return known;
    let stored = fresh;
    if (fresh.dtype !== dtype) {
      stored = this.#scope.tensor(fresh.shape, dtype, name);
      convert(fresh.device.recorder, fresh, stored);
    }
    this.replacements.set(name, stored);
    return stored;
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
