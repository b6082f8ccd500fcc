import type { PackedRows } from '../../kernels/index.js';
import type { RowParts } from './rowRecords.js';

/** A matrix in packed rows: how they look, and how they are read. */
export interface CompressedTensor {
  readonly rows: number;
  readonly format: PackedRows;
  readonly parts: RowParts;
}

/** Settings of a row order that names the group of each column; empty where columns are in order. */
export function columnOrder(
  groups: readonly number[],
  groupColumns: number,
): { readonly order?: Uint16Array } {
  const inOrder = groups.every((group, column) => group === Math.floor(column / groupColumns));
  return inOrder ? {} : { order: Uint16Array.from(groups) };
}
