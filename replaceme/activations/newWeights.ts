import { type DType, ensure, Scope, type Tensor } from '../../engine/index.js';
import { convert } from '../../kernels/index.js';
import {
  type LayerWeights,
  type Model,
  type SpilledTensor,
  type SpilledWeights,
  type SpillFile,
  storedName,
  type TensorRef,
  type WeightChanges,
} from '../../model/index.js';

/** The tensor in the given number type: itself when it has that type, else a copy in `scope`. */
export function rounded(tensor: Tensor, dtype: DType, scope: Scope): Tensor {
  if (tensor.dtype === dtype) return tensor;
  const stored = scope.weights(tensor.shape, dtype, tensor.label);
  convert(tensor.device.recorder, tensor, stored);
  return stored;
}

/**
 * Collects new layer weights in the number types of the checkpoint until all layers are done: on the device, or for an
 * offloaded model on the disk, so that memory does not grow with their number.
 */
export class NewWeights {
  readonly #layers = new Map<number, Partial<LayerWeights>>();
  readonly #spilled = new Map<number, SpilledWeights>();
  readonly #scope: Scope;

  /** @throws RmError INVALID_ARGUMENT for an offloaded model without a spill file. */
  constructor(
    private readonly model: Model,
    private readonly file?: SpillFile,
  ) {
    ensure(
      file !== undefined || !model.isOffloaded,
      'the layers are offloaded, and there is no file to spill new weights to',
      'Pass spillFile: new SpillFile(path).',
    );
    this.#scope = new Scope(model.device);
  }

  /** Takes ownership of a layer's new weights; call it when no later pass needs them. */
  async add(layer: number, weights: Partial<LayerWeights>): Promise<void> {
    const { model, file } = this;
    using scope = new Scope(model.device);
    const names: Readonly<Record<string, TensorRef | null>> = { ...model.arch.tensorNames.layers[layer]! };
    const stored: Record<string, Tensor> = {};
    for (const [key, tensor] of Object.entries(weights) as [string, Tensor | undefined][]) {
      if (!tensor) continue;
      scope.own(tensor);
      const ref = names[key];
      // Weights that the checkpoint has no name for keep their type.
      stored[key] = rounded(tensor, ref ? model.typeOf(storedName(ref)) : tensor.dtype, scope);
    }
    if (!model.isOffloaded || !file) {
      for (const tensor of Object.values(stored)) this.#scope.own(scope.release(tensor));
      this.#layers.set(layer, stored);
      return;
    }
    const spilled: Record<string, SpilledTensor> = {};
    for (const [key, tensor] of Object.entries(stored)) spilled[key] = await file.add(tensor);
    if (Object.keys(spilled).length > 0) this.#spilled.set(layer, spilled);
  }

  /** Hands all weights over to the caller. */
  release(): WeightChanges {
    this.#scope.releaseAll();
    return {
      ...(this.#layers.size > 0 && { layers: this.#layers }),
      ...(this.#spilled.size > 0 && { spilled: this.#spilled }),
    };
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
