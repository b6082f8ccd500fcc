import { type Device, RmError, type Tensor, tensorFrom } from '../engine/index.js';
import { ropeTable } from '../kernels/rope.js';
import { type Architecture, ropeInverseFrequencies } from './architecture.js';

/** Cosines and sines of the rotary embedding on the device; grows with the longest sequence seen. */
export class RotationTable {
  #table: Tensor | undefined;

  constructor(
    private readonly device: Device,
    private readonly arch: Architecture,
  ) {}

  /**
   * f32 [at least `positions`, headDim].
   *
   * @throws RmError INVALID_ARGUMENT beyond the model's context length.
   */
  upTo(positions: number): Tensor {
    const { arch } = this;
    if (this.#table && this.#table.shape[0]! >= positions) return this.#table;
    if (positions > arch.contextLength) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `a sequence of ${positions} tokens is longer than the model's context of ${arch.contextLength}`,
        'Shorten the prompt or text, or ask for fewer new tokens.',
      );
    }
    this.#table?.dispose();
    const count = Math.min(arch.contextLength, Math.max(512, 2 ** Math.ceil(Math.log2(positions))));
    const values = ropeTable(ropeInverseFrequencies(arch), count);
    this.#table = tensorFrom(this.device, values, [count, arch.headDim], 'rotations');
    return this.#table;
  }

  /** Frees the table. */
  dispose(): void {
    this.#table?.dispose();
    this.#table = undefined;
  }
}
