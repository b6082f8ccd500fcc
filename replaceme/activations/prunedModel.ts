import { RmError, Scope, Tensor } from '../../engine/index.js';
import { convert } from '../../kernels/index.js';
import {
  addReplacement,
  firstNonFinite,
  type LayerWeights,
  type Model,
  type NewValues,
  nonFiniteIn,
  type Replacement,
  refKey,
  storedName,
  type TensorRef,
  type WeightChanges,
  type Weights,
} from '../../model/index.js';
import { keptLayers, type Window } from '../run/window.js';
import { rounded } from './newWeights.js';

/**
 * The model that a method has made, in memory: the layers that stay with their new weights in the checkpoint's dtype,
 * the same numbers that go into the file. It takes over the tensors of `changes` and shares all others with `model`,
 * which must outlive it.
 */
export class PrunedModel {
  /** The layers that stay, by their old index. */
  readonly keep: readonly number[];
  readonly #original: Model;
  readonly #scope: Scope;
  /** New values of what the checkpoint has a name for, by that name. */
  readonly #written = new Map<string, readonly [ref: TensorRef, values: NewValues]>();
  #changes: WeightChanges = {};
  #model: Model;

  constructor(original: Model, windows: readonly Window[], changes: WeightChanges) {
    this.#original = original;
    this.#scope = new Scope(original.device);
    this.keep = keptLayers(windows, original.arch.layers);
    this.#model = original.withLayers(this.keep);
    this.change(changes);
  }

  /** The model with all changes so far. */
  get model(): Model {
    return this.#model;
  }

  /** New values of the checkpoint's tensors, by name. */
  get replacements(): ReadonlyMap<string, Replacement> {
    const replacements = new Map<string, Replacement>();
    for (const [ref, values] of this.#written.values()) addReplacement(replacements, ref, values);
    return replacements;
  }

  /** Takes over further weights, by old index; they take the place of those that were new before. */
  change({ layers = new Map<number, Partial<LayerWeights>>(), spilled, ...outer }: WeightChanges): void {
    const { tensorNames } = this.#original.arch;
    for (const weights of [...layers.values(), outer]) {
      for (const tensor of Object.values(weights)) if (tensor) this.#scope.own(tensor);
    }
    try {
      const known = new Map<string, Tensor>();
      const changed = new Map(this.#changes.layers);
      for (const [layer, weights] of layers) {
        const stored = this.#stored<LayerWeights>(tensorNames.layers[layer]!, weights, known);
        changed.set(layer, { ...changed.get(layer), ...stored });
      }
      for (const [layer, weights] of spilled ?? []) {
        const names: Readonly<Record<string, TensorRef | null>> = { ...tensorNames.layers[layer]! };
        for (const [key, tensor] of Object.entries(weights)) {
          const ref = names[key];
          if (ref) this.#written.set(refKey(ref), [ref, tensor]);
        }
      }
      this.#changes = {
        ...this.#changes,
        layers: changed,
        ...(spilled && { spilled }),
        ...this.#stored<Omit<Weights, 'layers' | 'vision'>>(tensorNames, outer, known),
      };
      this.#model = this.#original.withLayers(this.keep, this.#changes);
    } catch (error) {
      this.#scope.dispose();
      throw error;
    }
  }

  /** The same with new weights of these layers alone; undefined where they have none. */
  withOnly(original: Model, wanted: readonly number[]): Model | undefined {
    const of = <W>(all: ReadonlyMap<number, W> = new Map()) =>
      new Map([...all].filter(([layer]) => wanted.includes(layer)));
    const [layers, spilled] = [of(this.#changes.layers), of(this.#changes.spilled)];
    const changed = [...layers.values(), ...spilled.values()].some(
      weights => Object.keys(weights).length > 0,
    );
    return changed ? original.withLayers(this.keep, { layers, spilled }) : undefined;
  }

  /**
   * Weights rounded to the checkpoint's dtype; what the checkpoint has no name for stays as it is. Tied embeddings are one
   * tensor under two keys, and so is a norm that serves twice: `known`, by name.
   */
  #stored<W>(names: object, weights: Partial<W>, known: Map<string, Tensor>): Partial<W> {
    const { recorder } = this.#original.device;
    const entries = Object.entries(weights as Record<string, Tensor | undefined>).map(([key, fresh]) => {
      const ref = (names as Record<string, TensorRef | null>)[key];
      if (!fresh || !ref) return [key, fresh] as const;
      const name = storedName(ref);
      const stored = known.get(refKey(ref)) ?? rounded(fresh, this.#original.typeOf(name), this.#scope);
      known.set(refKey(ref), stored);
      this.#written.set(refKey(ref), [ref, stored]);
      if (!key.endsWith('Bias') || stored.dtype === 'f32') return [key, stored] as const;
      // Models hold biases in f32.
      const widened = this.#scope.tensor(stored.shape, 'f32', name);
      convert(recorder, stored, widened);
      return [key, widened] as const;
    });
    return Object.fromEntries(entries) as Partial<W>;
  }

  /** Of the new tensors on the disk. */
  async #firstSpilled() {
    for (const [name, [, tensor]] of this.#written) {
      const count = tensor instanceof Tensor ? 0 : await nonFiniteIn(tensor);
      if (count > 0) return { name, tensor, count };
    }
    return undefined;
  }

  /** @throws RmError NOT_FINITE naming the first new tensor that has values its number type cannot hold. */
  async verifyFinite(): Promise<void> {
    const here = new Map<string, Tensor>();
    for (const [name, [, tensor]] of this.#written) if (tensor instanceof Tensor) here.set(name, tensor);
    const found = (await firstNonFinite(this.model.device, here)) ?? (await this.#firstSpilled());
    if (!found) return;
    const { dtype } = found.tensor;
    throw new RmError(
      'NOT_FINITE',
      `the new '${found.name}' has ${found.count} values that are NaN or infinite as ${dtype}`,
      `${dtype === 'f16' ? 'Store it as `dtype: bf16` or f32, or choose' : 'Choose'} another \`window\` or fewer layers; if eval of the unpruned model fails too, its weights are damaged.`,
    );
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
