import { type DType, RmError, Scope, type Tensor } from '../engine/index.js';
import { convert } from '../kernels/convert.js';
import { refKey, storedName, type TensorRef } from '../model/architecture.js';
import { firstNonFinite } from '../model/firstNonFinite.js';
import { type HostTensor, nonFiniteIn } from '../model/hostWeights.js';
import type { Model, WeightChanges } from '../model/model.js';
import { addReplacement, type Replacement } from '../model/replacement.js';
import type { LayerWeights, Weights } from '../model/weights.js';
import { rounded } from './keptWeights.js';
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
  readonly replacements = new Map<string, Replacement>();
  /** Of these, those on the device. */
  readonly #rounded = new Map<string, Tensor>();
  /** And those on the host. */
  readonly #waiting = new Map<string, HostTensor>();
  readonly #scope: Scope;
  readonly #changes: WeightChanges;

  constructor(original: Model, windows: readonly Window[], changes: WeightChanges) {
    const { tensorNames, layers } = original.arch;
    this.#scope = new Scope(original.device);
    const { layers: changedLayers = new Map<number, Partial<LayerWeights>>(), waiting, ...outer } = changes;
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
      for (const [layer, weights] of waiting ?? []) {
        const names: Readonly<Record<string, TensorRef | null>> = { ...tensorNames.layers[layer]! };
        for (const [key, tensor] of Object.entries(weights)) {
          const ref = names[key];
          if (!ref) continue;
          this.#waiting.set(refKey(ref), tensor);
          addReplacement(this.replacements, ref, tensor);
        }
      }
      this.keep = keptLayers(windows, layers);
      this.#changes = {
        layers: changed,
        ...(waiting && { waiting }),
        ...this.#stored<Omit<Weights, 'layers' | 'vision'>>(original, tensorNames, outer),
      };
      this.model = original.withLayers(this.keep, this.#changes);
    } catch (error) {
      this.#scope.dispose();
      throw error;
    }
  }

  /** The same with new weights of these layers alone; undefined where they have none. */
  withOnly(original: Model, wanted: readonly number[]): Model | undefined {
    const of = <W>(all: ReadonlyMap<number, W> = new Map()) =>
      new Map([...all].filter(([layer]) => wanted.includes(layer)));
    const [layers, waiting] = [of(this.#changes.layers), of(this.#changes.waiting)];
    const changed = [...layers.values(), ...waiting.values()].some(
      weights => Object.keys(weights).length > 0,
    );
    return changed ? original.withLayers(this.keep, { layers, waiting }) : undefined;
  }

  /** Weights rounded to the checkpoint's dtype; what the checkpoint has no name for stays as it is. */
  #stored<W>(model: Model, names: object, weights: Partial<W>): Partial<W> {
    const { recorder } = model.device;
    const entries = Object.entries(weights as Record<string, Tensor | undefined>).map(([key, fresh]) => {
      const ref = (names as Record<string, TensorRef | null>)[key];
      if (!fresh || !ref) return [key, fresh] as const;
      const name = storedName(ref);
      const stored = this.#asStored(fresh, ref, model.typeOf(name));
      if (!key.endsWith('Bias') || stored.dtype === 'f32') return [key, stored] as const;
      // Models hold biases in f32.
      const widened = this.#scope.tensor(stored.shape, 'f32', name);
      convert(recorder, stored, widened);
      return [key, widened] as const;
    });
    return Object.fromEntries(entries) as Partial<W>;
  }

  #asStored(fresh: Tensor, ref: TensorRef, dtype: DType): Tensor {
    const key = refKey(ref);
    // Tied embeddings are one tensor under two keys, and so is a norm that serves twice.
    const known = this.#rounded.get(key);
    if (known) return known;
    const stored = rounded(fresh, dtype, this.#scope);
    this.#rounded.set(key, stored);
    addReplacement(this.replacements, ref, stored);
    return stored;
  }

  /** The same of those on the host. */
  #firstWaiting() {
    for (const [name, tensor] of this.#waiting) {
      const count = nonFiniteIn(tensor);
      if (count > 0) return { name, tensor, count };
    }
    return undefined;
  }

  /** @throws RmError NOT_FINITE naming the first new tensor that has values its number type cannot hold. */
  async verifyFinite(): Promise<void> {
    const found = (await firstNonFinite(this.model.device, this.#rounded)) ?? this.#firstWaiting();
    if (!found) return;
    const { dtype } = found.tensor;
    throw new RmError(
      'NOT_FINITE',
      `the new '${found.name}' has ${found.count} values that are NaN or infinite as ${dtype}`,
      `${dtype === 'f16' ? 'Store it as --dtype bf16 or f32, or choose' : 'Choose'} another --window or fewer layers; if eval of the unpruned model fails too, its weights are damaged.`,
    );
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
