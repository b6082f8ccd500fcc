import type { Tensor } from '../../engine/index.js';
import { checkTensor } from '../shared/checks.js';

/** Where sequences are among the rows of a tensor: each in consecutive rows, one behind the other. */
export interface SequenceRows {
  /**
   * u32 [sequences, 4]: first row, number of rows (at least one), place among the states, and whether the state there is of
   * the tokens before (1) or the sequence begins (0).
   */
  readonly sequences: Tensor;
  /** The sequence of each row, u32 [rows]. */
  readonly sequenceOf: Tensor;
}

/** @throws RmError INVALID_ARGUMENT unless they are of so many rows. */
export function checkSequenceRows(
  kernel: string,
  { sequences, sequenceOf }: SequenceRows,
  rows: number,
): void {
  checkTensor(kernel, 'sequences', sequences, [sequences.shape[0]!, 4], ['u32']);
  checkTensor(kernel, 'sequenceOf', sequenceOf, [rows], ['u32']);
}
