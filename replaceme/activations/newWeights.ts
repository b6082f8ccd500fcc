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

/** In a number type; the tensor itself where it has it, else made in `scope`. */
export function rounded(tensor: Tensor, dtype: DType, scope: Scope): Tensor {
  if (tensor.dtype === dtype) return tensor;
  const stored = scope.tensor(tensor.shape, dtype, tensor.label);
  convert(tensor.device.recorder, tensor, stored);
  return stored;
}

/**
 * New weights that have been found, until all are, as the checkpoint stores them: on the device, or where layers are
 * streamed on the disk, so that no memory grows with their number.
 */
export class NewWeights {
  readonly #layers = new Map<number, Partial<LayerWeights>>();
  readonly #spilled = new Map<number, SpilledWeights>();
  readonly #scope: Scope;

  /** @throws RmError INVALID_ARGUMENT for a streamed model without a file. */
  constructor(
    private readonly model: Model,
    private readonly file?: SpillFile,
  ) {
    ensure(
      file !== undefined || !model.isOffloaded,
      'the layers are streamed, and there is no file in which new weights could wait',
      'Pass spilled: new SpillFile(path).',
    );
    this.#scope = new Scope(model.device);
  }

  /** Takes over new weights of a layer, which no walk needs any more. */
  async add(layer: number, weights: Partial<LayerWeights>): Promise<void> {
    const { model, file } = this;
    using scope = new Scope(model.device);
    const names: Readonly<Record<string, TensorRef | null>> = { ...model.arch.tensorNames.layers[layer]! };
    const stored: Record<string, Tensor> = {};
    for (const [key, tensor] of Object.entries(weights) as [string, Tensor | undefined][]) {
      if (!tensor) continue;
      scope.own(tensor);
      const ref = names[key];
      // What the checkpoint has no name for stays as it is.
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

  /** Hands them over. */
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
