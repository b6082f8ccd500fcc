import { Scope, type Tensor } from '../engine/index.js';
import { convert } from '../kernels/convert.js';
import type { LayerWeights, Model } from '../model/model.js';
import type { Fit } from './methods/index.js';
import type { Window } from './window.js';

/** The fitted weights in the checkpoint's dtype: the same numbers for the model in memory and for the file. */
export class StoredFit {
  readonly weights: Partial<LayerWeights>;
  readonly replacements = new Map<string, Tensor>();
  readonly #scope: Scope;

  constructor(model: Model, { layer }: Window, { down, downBias }: Fit) {
    const old = model.weights.layers[layer]!;
    const names = model.arch.tensorNames.layers[layer]!;
    const rec = model.device.recorder;
    this.#scope = new Scope(model.device);
    const store = (fresh: Tensor, name: string): Tensor => {
      const stored = this.#scope.tensor(fresh.shape, model.tensors.get(name)!.dtype, name);
      convert(rec, fresh, stored);
      this.replacements.set(name, stored);
      return stored;
    };
    const weights: { down?: Tensor; downBias?: Tensor } = {};
    try {
      if (down) weights.down = store(down, names.down);
      if (downBias && old.downBias) {
        const bias = store(downBias, names.downBias!);
        weights.downBias = this.#scope.tensor(bias.shape, 'f32', 'bias');
        convert(rec, bias, weights.downBias);
      }
    } catch (error) {
      this.#scope.dispose();
      throw error;
    } finally {
      down?.dispose();
      downBias?.dispose();
    }
    this.weights = weights;
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
