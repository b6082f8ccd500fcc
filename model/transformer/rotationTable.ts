import { type Device, RmError, type Tensor, tensorFrom } from '../../engine/index.js';
import { ropeTable } from '../../kernels/index.js';
import type { Architecture } from '../architecture/architecture.js';
import { type Rope, ropeAttentionFactor, ropeInverseFrequencies } from '../architecture/rope.js';
import type { Batch } from './batch.js';

/** Number of table rows allocated for a sequence of `positions` tokens. */
export const rotationRows = (contextLength: number, positions: number): number =>
  Math.min(contextLength, Math.max(512, 2 ** Math.ceil(Math.log2(positions))));

/** Keeps cosines and sines of a model's rotary embeddings on the device; the tables grow with the longest sequence. */
export class RotationTable {
  /** By kind of rotation. */
  readonly #tables: (Tensor | undefined)[] = [];

  constructor(
    private readonly device: Device,
    private readonly arch: Pick<Architecture, 'ropes' | 'contextLength'>,
  ) {}

  /**
   * Returns the table [rows, rotaryDim] f32 of one of the architecture's `ropes`, each token's row in it, u32 [tokens], and
   * how columns are paired.
   * If frequencies depend on the sequence's length (longrope), rows for long sequences follow those for short ones.
   *
   * @throws RmError INVALID_ARGUMENT for a sequence longer than the model's context.
   */
  of(kind: number, batch: Batch): { table: Tensor; positions: Tensor; interleaved: boolean } {
    const rope = this.arch.ropes[kind]!;
    const table = this.#upTo(kind, rope, batch.longest);
    const positions =
      rope.kind === 'longrope'
        ? batch.positionsApart(rope.originalContext, table.shape[0]! / 2)
        : batch.positions;
    return { table, positions, interleaved: rope.interleaved === true };
  }

  #upTo(kind: number, rope: Rope, positions: number): Tensor {
    const { contextLength } = this.arch;
    const lengths = rope.kind === 'longrope' ? [false, true] : [false];
    const existing = this.#tables[kind];
    if (existing && existing.shape[0]! >= positions * lengths.length) return existing;
    if (positions > contextLength) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `a sequence of ${positions} tokens is longer than the model's context of ${contextLength}`,
        'Shorten the prompt or text, or ask for fewer new tokens.',
      );
    }
    existing?.dispose();
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
