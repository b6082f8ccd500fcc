import {
  type Device,
  download,
  type LiveState,
  type Scope,
  type StoredTensor,
  Tensor,
  tensorFromBytes,
} from '../../engine/index.js';
import { convert } from '../../kernels/index.js';

/** Where tensors of all calibration tokens are kept between the layers. */
export interface StatePlacement {
  /** "host": in the host's memory; a batch comes to the device when its turn is there. */
  readonly place: 'device' | 'host';
  /**
   * Number type on the host: f32 keeps every bit; bf16 takes half and rounds every state to 8 bits of mantissa, 0.2 % at
   * the most, once per layer.
   */
  readonly dtype: 'f32' | 'bf16';
  /** Whether what would be computed more than once is kept too: of a layer by a refit, and between the steps of a run. */
  readonly keepsInner: boolean;
}

interface HostState {
  readonly bytes: Uint8Array;
  readonly shape: readonly number[];
}

interface SavedTensors {
  readonly onDevice: readonly (StoredTensor | undefined)[];
  readonly onHost: readonly (HostState | undefined)[];
}

/** One f32 tensor of every calibration batch. */
export class BatchTensors implements LiveState {
  readonly #onDevice: (Tensor | undefined)[] = [];
  readonly #onHost: (HostState | undefined)[] = [];

  constructor(
    private readonly device: Device,
    private readonly placement?: Pick<StatePlacement, 'place' | 'dtype'>,
  ) {}

  has(index: number): boolean {
    return (this.#onDevice[index] ?? this.#onHost[index]) !== undefined;
  }

  /** The batch's tensor, which has been put here; it stays, or is made in `scope`. */
  async get(index: number, scope: Scope): Promise<Tensor> {
    const kept = this.#onHost[index];
    if (!kept) return this.#onDevice[index]!;
    const { dtype } = this.placement!;
    const stored = scope.own(await tensorFromBytes(this.device, kept.bytes, kept.shape, dtype, 'states'));
    if (dtype === 'f32') return stored;
    const wide = scope.tensor(kept.shape, 'f32', 'states');
    convert(this.device.recorder, stored, wide);
    return wide;
  }

  /** Takes over a tensor; what was in its place goes. */
  async put(index: number, tensor: Tensor): Promise<void> {
    if (this.placement?.place !== 'host') {
      this.#onDevice[index]?.dispose();
      this.#onDevice[index] = tensor;
      return;
    }
    using _ = tensor;
    const { shape } = tensor;
    if (this.placement.dtype === 'f32') {
      this.#onHost[index] = { bytes: await download(tensor), shape };
      return;
    }
    using narrow = Tensor.create(this.device, shape, this.placement.dtype, 'states');
    convert(this.device.recorder, tensor, narrow);
    this.#onHost[index] = { bytes: await download(narrow), shape };
  }

  save(): unknown {
    return { onDevice: [...this.#onDevice], onHost: [...this.#onHost] };
  }

  async restore({ onDevice, onHost }: SavedTensors): Promise<void> {
    for (const [index, stored] of onDevice.entries()) {
      if (stored) this.#onDevice[index] = await stored.load();
    }
    this.#onHost.push(...onHost);
  }

  /** Hands a batch's tensor over to the caller, where it is on the device. */
  take(index: number): Tensor | undefined {
    const tensor = this.#onDevice[index];
    this.#onDevice[index] = undefined;
    return tensor;
  }

  dispose(): void {
    for (const tensor of this.#onDevice.splice(0)) tensor?.dispose();
    this.#onHost.length = 0;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
