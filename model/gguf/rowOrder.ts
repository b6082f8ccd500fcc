/**
 * llama.cpp orders the rows of some tensors differently from transformers.
 *
 * Pairs: llama.cpp rotates neighbouring rows of a head together (0 with 1, 2 with 3), transformers row r with row r + half
 * the head. Groups: llama.cpp stores all queries, then all keys, then all values; transformers stores, group by group, the
 * queries of one key head, that key head and its value head.
 * Source: LlamaModel.permute, FalconModel and GPTNeoXModel.modify_tensors in llama.cpp's converters.
 */
export type RowOrderKind = 'queryPairs' | 'keyPairs' | 'groups';

/** Head counts of a model. */
interface HeadCounts {
  readonly heads: number;
  readonly kvHeads: number;
}

/** How a tensor's rows are reordered: whole heads, or rows within heads. */
export interface RowOrder {
  readonly headRows: number;
  /** For each of transformers' heads, its index in llama.cpp's order. */
  readonly places: readonly number[];
  /** Whether rows that rotate together are adjacent. */
  readonly paired: boolean;
}

const identity = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Number of heads in a tensor with this row order. */
const headsOf = (kind: RowOrderKind, { heads, kvHeads }: HeadCounts): number =>
  ({ queryPairs: heads, keyPairs: kvHeads, groups: heads + 2 * kvHeads })[kind];

/** The row order of a tensor with `rows` rows; undefined if these are not whole heads. */
export function rowOrder(kind: RowOrderKind, rows: number, counts: HeadCounts): RowOrder | undefined {
  const count = headsOf(kind, counts);
  const headRows = rows / count;
  const paired = kind !== 'groups';
  if (!Number.isInteger(headRows) || (paired && headRows % 2 !== 0)) return undefined;
  if (paired) return { headRows, places: identity(count), paired };
  const { heads, kvHeads } = counts;
  const queries = heads / kvHeads;
  if (!Number.isInteger(queries)) return undefined;
  const places = identity(count).map(head => {
    const [group, within] = [Math.floor(head / (queries + 2)), head % (queries + 2)];
    if (within < queries) return group * queries + within;
    return heads + (within - queries) * kvHeads + group;
  });
  return { headRows, places, paired };
}

/** Index in llama.cpp's order of row `row` in transformers' order; heads have `headDim` rows. */
export function rotaryPairRow(row: number, headDim: number): number {
  const within = row % headDim;
  const half = headDim / 2;
  return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

/** The inverse of rotaryPairRow. */
export function rotaryHalfRow(row: number, headDim: number): number {
  const within = row % headDim;
  return row - within + Math.floor(within / 2) + (within % 2) * (headDim / 2);
}

/** Reorders rows of `rowBytes` bytes: row r of the result is row `from(r)`. */
export function reorderedRows(
  bytes: Uint8Array,
  rowBytes: number,
  from: (row: number) => number,
): Uint8Array {
  const out = new Uint8Array(bytes.byteLength);
  for (let row = 0; row * rowBytes < bytes.byteLength; row++) {
    const at = from(row) * rowBytes;
    out.set(bytes.subarray(at, at + rowBytes), row * rowBytes);
  }
  return out;
}

/** Splits transformers' heads first .. first+count-1 into runs that are contiguous in llama.cpp's order too. */
export function* headRuns(
  { places }: RowOrder,
  first: number,
  count: number,
): Generator<{ place: number; heads: number }> {
  for (let head = first; head < first + count; ) {
    let heads = 1;
    while (head + heads < first + count && places[head + heads] === places[head]! + heads) heads++;
    yield { place: places[head]!, heads };
    head += heads;
  }
}

/** Reorders rows from transformers' order into llama.cpp's. `bytes` are whole heads if rows are paired, else the whole tensor. */
export function inGgufOrder(bytes: Uint8Array, rowBytes: number, order: RowOrder): Uint8Array {
  const { headRows, places, paired } = order;
  if (paired) return reorderedRows(bytes, rowBytes, row => rotaryHalfRow(row, headRows));
  const heads = new Array<number>(places.length);
  for (const [head, place] of places.entries()) heads[place] = head;
  return reorderedRows(bytes, headRows * rowBytes, place => heads[place]!);
}
