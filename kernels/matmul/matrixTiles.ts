import type { FloatType } from '../shared/checks.js';

/** The tile of a workgroup with matrix units. */
export interface MatrixTile {
  rows: 64 | 128;
  columns: 64 | 128;
  /** f32 operands become one f16 with 11 bits instead of two with 22. */
  single: boolean;
}

/** Dtypes of the left operand and of the one or two right ones. */
export type FactorTypes = readonly [a: FloatType, b: FloatType, up?: FloatType];

/** Extents of [m,k] x [n,k]^T. */
export interface ProductExtents {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** How the subgroups of a workgroup of 256 threads share a tile. */
export function arrangement(subgroup: number): [down: number, across: number] {
  const subgroups = 256 / subgroup;
  const across = 2 ** Math.ceil(Math.log2(subgroups) / 2);
  return [subgroups / across, across];
}

/** Number of f16 that stand for one element. bf16 has 8 bits: scaled, it is an f16. */
export const partsOf = (dtype: FloatType, single: boolean): 1 | 2 => (dtype === 'f32' && !single ? 2 : 1);

/** The products of parts, small ones first; that of the two small parts is below the rounding of the others. */
export const productsOf = (left: number, right: number): [left: number, right: number][] => [
  ...(right === 2 ? [[0, 1] as [number, number]] : []),
  ...(left === 2 ? [[1, 0] as [number, number]] : []),
  [0, 0],
];

/** Columns of out that one workgroup computes: the right operands share the tile's columns. */
export const matrixTileColumns = ({ columns }: MatrixTile, gated: boolean): number =>
  gated ? columns / 2 : columns;

/** Lines of f16 that a workgroup stages for this tile: those of all parts of all operands. */
function stagedLines([a, ...right]: FactorTypes, { rows, columns, single }: MatrixTile): number {
  const widths = right.map(dtype => (columns / right.length) * partsOf(dtype ?? 'f16', single));
  return widths.reduce((sum, width) => sum + width, rows * partsOf(a, single));
}

/** Whether the operands of a tile fit 12 KiB of workgroup memory, 16 k at a time. */
export const tileFits = (types: FactorTypes, tile: MatrixTile): boolean => stagedLines(types, tile) <= 256;

/** How many k are staged at a time. */
export const matrixDepth = (types: FactorTypes, tile: MatrixTile): 16 | 32 =>
  stagedLines(types, tile) <= 128 ? 32 : 16;
