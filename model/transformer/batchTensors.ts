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

/** Where hidden states of all calibration tokens are kept between layers. */
export interface StatePlacement {
  /** "host": in host memory; each batch is uploaded when it is needed. */
  readonly place: 'device' | 'host';
  /**
   * Number type on the host: f32 keeps every bit; bf16 halves the memory and rounds every state to 8 bits of mantissa, an
   * error of at most 0.2 %, once per layer.
   */
  readonly dtype: 'f32' | 'bf16';
  /** Also keep intermediate results that a refit, or a later step of the run, would otherwise compute again. */
  readonly keepsInner: boolean;
}

interface HostState {
  readonly bytes: Uint8Array;
  readonly shape: readonly number[];
}

/** A state on its way to the host. */
interface ArrivingState {
  readonly bytes: Promise<Uint8Array>;
  readonly shape: readonly number[];
}

interface SavedTensors {
  readonly onDevice: readonly (StoredTensor | undefined)[];
  readonly onHost: readonly (HostState | undefined)[];
}

/** Holds one f32 tensor per calibration batch, on the device or the host. */
export class BatchTensors implements LiveState {
  readonly #onDevice: (Tensor | undefined)[] = [];
  readonly #onHost: (HostState | ArrivingState | undefined)[] = [];

  constructor(
    private readonly device: Device,
    private readonly placement?: Pick<StatePlacement, 'place' | 'dtype'>,
  ) {}

  has(index: number): boolean {
    return (this.#onDevice[index] ?? this.#onHost[index]) !== undefined;
  }

  /** Returns a batch's tensor; if it is on the host, uploads it into `scope`. */
  async get(index: number, scope: Scope): Promise<Tensor> {
    const hostState = this.#onHost[index];
    if (!hostState) return this.#onDevice[index]!;
    const { dtype } = this.placement!;
    const stored = scope.own(
      await tensorFromBytes(this.device, await hostState.bytes, hostState.shape, dtype, 'states'),
    );
    if (dtype === 'f32') return stored;
    const wide = scope.tensor(hostState.shape, 'f32', 'states');
    convert(this.device.recorder, stored, wide);
    return wide;
  }

  /** Takes ownership of a batch's tensor and frees the one it replaces. A download goes on in the background. */
  put(index: number, tensor: Tensor): void {
    if (this.placement?.place !== 'host') {
      this.#onDevice[index]?.dispose();
      this.#onDevice[index] = tensor;
      return;
    }
    using _ = tensor;
    const { shape } = tensor;
    using narrow =
      this.placement.dtype === 'f32'
        ? undefined
        : Tensor.create(this.device, shape, this.placement.dtype, 'states');
    if (narrow) convert(this.device.recorder, tensor, narrow);
    const bytes = download(narrow ?? tensor);
    // Whoever needs the state gets its failure.
    bytes.catch(() => {});
    this.#onHost[index] = { bytes, shape };
  }

  async save(): Promise<unknown> {
    const onHost: (HostState | undefined)[] = [];
    for (const [index, state] of this.#onHost.entries()) {
      if (state) onHost[index] = { bytes: await state.bytes, shape: state.shape };
    }
    return { onDevice: [...this.#onDevice], onHost };
  }

  async restore({ onDevice, onHost }: SavedTensors): Promise<void> {
    for (const [index, stored] of onDevice.entries()) {
      if (stored) this.#onDevice[index] = await stored.load();
    }
    for (const tensor of onHost) this.#onHost.push(tensor);
  }

  /** Transfers ownership of a batch's tensor to the caller; undefined if it is not on the device. */
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
