import { type Device, RmError, type Tensor, tensorFrom } from '../engine/index.js';
import { ropeTable } from '../kernels/rope.js';
import { type Rope, ropeAttentionFactor, ropeInverseFrequencies } from './rope.js';

/** Rows of the table that a sequence of `positions` tokens needs. */
export const rotationRows = (contextLength: number, positions: number): number =>
  Math.min(contextLength, Math.max(512, 2 ** Math.ceil(Math.log2(positions))));

/** Cosines and sines of a rotary embedding on the device; grows with the longest sequence seen. */
export class RotationTable {
  /** For sequences within the original context, and beyond it. */
  readonly #tables: [within: Tensor | undefined, beyond: Tensor | undefined] = [undefined, undefined];

  /** @param contextLength positions that the model was made for. */
  constructor(
    private readonly device: Device,
    private readonly rope: Rope,
    private readonly contextLength: number,
  ) {}

  /**
   * f32 [at least `positions`, rotaryDim]. Where frequencies depend on the length of a sequence (longrope), they are those of
   * `positions`, the longest of a batch, as in transformers.
   *
   * @throws RmError INVALID_ARGUMENT beyond the model's context length.
   */
  upTo(positions: number): Tensor {
    const { rope, contextLength } = this;
    if (positions > contextLength) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `a sequence of ${positions} tokens is longer than the model's context of ${contextLength}`,
        'Shorten the prompt or text, or ask for fewer new tokens.',
      );
    }
    const long = rope.kind === 'longrope' && positions > rope.originalContext;
    const which = long ? 1 : 0;
    const known = this.#tables[which];
    if (known && known.shape[0]! >= positions) return known;
    known?.dispose();
    const count = rotationRows(contextLength, positions);
    const values = ropeTable(ropeInverseFrequencies(rope, long), count, ropeAttentionFactor(rope));
    const table = tensorFrom(this.device, values, [count, rope.rotaryDim], 'rotations');
    this.#tables[which] = table;
    return table;
  }

  /** Frees the tables. */
  dispose(): void {
    for (const which of [0, 1] as const) {
      this.#tables[which]?.dispose();
      this.#tables[which] = undefined;
    }
  }
}
