import { broadcastRows } from './broadcast.js';
import { MATRIX_KEYS, MATRIX_ROWS } from './matrices.js';
import { KEYS, ROWS } from './tiled.js';
import { type AttentionShape, type AttentionVariant, headsTogether, isFew } from './variants.js';

/** Rows of a workgroup and keys that it takes at a time. */
export function tileOf(
  { program }: AttentionVariant,
  headDim: number,
  subgroup: number,
): { rows: number; keys: number } {
  if (program === 'broadcast') return { rows: broadcastRows(headDim, subgroup), keys: 4 * subgroup };
  return program === 'tiled' ? { rows: ROWS, keys: KEYS } : { rows: MATRIX_ROWS, keys: MATRIX_KEYS };
}

/**
 * Operations of an attention, and the bytes that its workgroups read and write: k and v once for each tile of rows, or for
 * the heads together that a query has in one workgroup, q once for each tile of keys, since it is staged anew. With many
 * queries, ranges are taken for causal: half of all pairs.
 */
export function attentionCost(
  variant: AttentionVariant,
  shape: AttentionShape & { headDim: number },
  subgroup = 1,
): { flops: number; bytes: number } {
  const { queries, keys, heads, kvHeads, headDim } = shape;
  const few = 'chunk' in variant;
  const seen = isFew(shape) ? keys : keys / 2;
  const { rows, keys: tile } = few
    ? { rows: headsTogether(heads / kvHeads), keys }
    : tileOf(variant, headDim, subgroup);
  const workgroups = few ? (queries * heads) / rows : kvHeads * Math.ceil((queries * heads) / kvHeads / rows);
  const lines = workgroups * (2 * seen + rows * Math.max(1, seen / Math.max(1, tile))) + queries * heads;
  return { flops: 4 * queries * seen * heads * headDim, bytes: 4 * headDim * lines };
}
