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
 * The pruned model in memory: the layers that stay, with new weights rounded to the checkpoint's dtype, the same numbers
 * that go into the file. It owns the tensors of `changes` and shares all others with the original model, which must
 * outlive it.
 */
export class PrunedModel {
  /** Original indices of the layers that stay. */
  readonly keep: readonly number[];
  readonly #original: Model;
  readonly #scope: Scope;
  /** New values of the checkpoint's tensors, by name. */
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

  /** The new weights of layers so far, by original index; owned here. */
  get layers(): ReadonlyMap<number, Partial<LayerWeights>> {
    return this.#changes.layers ?? new Map();
  }

  /** What to write in place of the checkpoint's tensors, by name. */
  get replacements(): ReadonlyMap<string, Replacement> {
    const replacements = new Map<string, Replacement>();
    for (const [ref, values] of this.#written.values()) addReplacement(replacements, ref, values);
    return replacements;
  }

  /** Takes ownership of further weights, keyed by original layer index; they replace earlier changes. */
  change({ layers = new Map<number, Partial<LayerWeights>>(), spilled, ...outer }: WeightChanges): void {
    const { tensorNames } = this.#original.arch;
    for (const weights of [...layers.values(), outer]) {
      for (const tensor of Object.values(weights)) if (tensor) this.#scope.own(tensor);
    }
    try {
      const converted = new Map<string, Tensor>();
      const changed = new Map(this.#changes.layers);
      for (const [layer, weights] of layers) {
        const stored = this.#stored<LayerWeights>(tensorNames.layers[layer]!, weights, converted);
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
        ...this.#stored<Omit<Weights, 'layers' | 'vision'>>(tensorNames, outer, converted),
      };
      this.#model = this.#original.withLayers(this.keep, this.#changes);
    } catch (error) {
      this.#scope.dispose();
      throw error;
    }
  }

  /** The pruned model with the new weights of these layers only; undefined when they have none. */
  withOnly(original: Model, layerIndices: readonly number[]): Model | undefined {
    const only = <W>(all: ReadonlyMap<number, W> = new Map()) =>
      new Map([...all].filter(([layer]) => layerIndices.includes(layer)));
    const [layers, spilled] = [only(this.#changes.layers), only(this.#changes.spilled)];
    const changed = [...layers.values(), ...spilled.values()].some(
      weights => Object.keys(weights).length > 0,
    );
    return changed ? original.withLayers(this.keep, { layers, spilled }) : undefined;
  }

  /**
   * Rounds weights to the checkpoint's dtype; weights that the checkpoint has no name for stay as they are. Tied
   * embeddings, or a norm that serves twice, are one tensor under two keys: `converted` holds each once, by name.
   */
  #stored<W>(names: object, weights: Partial<W>, converted: Map<string, Tensor>): Partial<W> {
    const { recorder } = this.#original.device;
    const entries = Object.entries(weights as Record<string, Tensor | undefined>).map(([key, fresh]) => {
      const ref = (names as Record<string, TensorRef | null>)[key];
      if (!fresh || !ref) return [key, fresh] as const;
      const name = storedName(ref);
      const stored = converted.get(refKey(ref)) ?? rounded(fresh, this.#original.typeOf(name), this.#scope);
      converted.set(refKey(ref), stored);
      this.#written.set(refKey(ref), [ref, stored]);
      if (!key.endsWith('Bias') || stored.dtype === 'f32') return [key, stored] as const;
      // A loaded model holds its biases in f32.
      const widened = this.#scope.tensor(stored.shape, 'f32', name);
      convert(recorder, stored, widened);
      return [key, widened] as const;
    });
    return Object.fromEntries(entries) as Partial<W>;
  }

  /** The first spilled tensor with values that are not finite. */
  async #firstNonFiniteSpilled() {
    for (const [name, [, tensor]] of this.#written) {
      const count = tensor instanceof Tensor ? 0 : await nonFiniteIn(tensor);
      if (count > 0) return { name, tensor, count };
    }
    return undefined;
  }

  /** @throws RmError NOT_FINITE naming the first new tensor with values that its number type cannot hold. */
  async verifyFinite(): Promise<void> {
    const onDevice = new Map<string, Tensor>();
    for (const [name, [, tensor]] of this.#written) if (tensor instanceof Tensor) onDevice.set(name, tensor);
    const broken =
      (await firstNonFinite(this.model.device, onDevice)) ?? (await this.#firstNonFiniteSpilled());
    if (!broken) return;
    const { dtype } = broken.tensor;
    throw new RmError(
      'NOT_FINITE',
      `the new '${broken.name}' has ${broken.count} values that are NaN or infinite as ${dtype}`,
      `${dtype === 'f16' ? 'Store it as `dtype: bf16` or f32, or choose' : 'Choose'} another \`window\` or fewer layers; if eval of the unpruned model fails too, its weights are damaged.`,
    );
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
