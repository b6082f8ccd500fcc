import { type Device, RmError, type Tensor, tensorFrom } from '../../engine/index.js';
import { ropeTable } from '../../kernels/index.js';
import type { Architecture } from '../architecture/architecture.js';
import { type Rope, ropeAttentionFactor, ropeInverseFrequencies } from '../architecture/rope.js';
import type { Batch } from './batch.js';

/** Rows of the table that a sequence of `positions` tokens needs. */
export const rotationRows = (contextLength: number, positions: number): number =>
  Math.min(contextLength, Math.max(512, 2 ** Math.ceil(Math.log2(positions))));

/** Cosines and sines of a model's rotary embeddings on the device; they grow with the longest sequence seen. */
export class RotationTable {
  /** By kind of rotation. */
  readonly #tables: (Tensor | undefined)[] = [];

  constructor(
    private readonly device: Device,
    private readonly arch: Pick<Architecture, 'ropes' | 'contextLength'>,
  ) {}

  /**
   * The table [rows, rotaryDim] f32 of one of the architecture's `ropes`, and for every token of the batch the row that
   * turns it, u32 [tokens]. Where frequencies depend on the length of a sequence (longrope), the table has those of long
   * sequences behind those of short ones.
   *
   * @throws RmError INVALID_ARGUMENT beyond the model's context length.
   */
  of(kind: number, batch: Batch): { table: Tensor; positions: Tensor } {
    const rope = this.arch.ropes[kind]!;
    const table = this.#upTo(kind, rope, batch.longest);
    const positions =
      rope.kind === 'longrope'
        ? batch.positionsApart(rope.originalContext, table.shape[0]! / 2)
        : batch.positions;
    return { table, positions };
  }

  #upTo(kind: number, rope: Rope, positions: number): Tensor {
    const { contextLength } = this.arch;
    const lengths = rope.kind === 'longrope' ? [false, true] : [false];
    const known = this.#tables[kind];
    if (known && known.shape[0]! >= positions * lengths.length) return known;
    if (positions > contextLength) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `a sequence of ${positions} tokens is longer than the model's context of ${contextLength}`,
        'Shorten the prompt or text, or ask for fewer new tokens.',
      );
    }
    known?.dispose();
    const count = rotationRows(contextLength, positions);
    const { rotaryDim } = rope;
    const values = new Float32Array(lengths.length * count * rotaryDim);
    for (const [i, long] of lengths.entries()) {
      const rows = ropeTable(ropeInverseFrequencies(rope, long), count, ropeAttentionFactor(rope));
      values.set(rows, i * count * rotaryDim);
    }
    const table = tensorFrom(this.device, values, [lengths.length * count, rotaryDim], 'rotations');
    this.#tables[kind] = table;
    return table;
  }

  /** Frees the tables. */
  dispose(): void {
    for (const table of this.#tables.splice(0)) table?.dispose();
  }
}
