/**
 * llama.cpp has rows of some tensors in another order than transformers.
 *
 * Pairs: it rotates neighbouring rows of a head together (0 with 1, 2 with 3), transformers row r with row r + half the
 * head. Groups: it has all queries, then all keys, then all values, where transformers has the queries of one key head,
 * that key head and its value head, group by group.
 * Source: LlamaModel.permute, FalconModel and GPTNeoXModel.modify_tensors in llama.cpp's converters.
 */
export type RowOrderKind = 'queryPairs' | 'keyPairs' | 'groups';

/** Heads that a tensor's rows are of. */
export interface HeadCounts {
  readonly heads: number;
  readonly kvHeads: number;
}

/** Where the rows of a tensor are: whole heads in another order, or rows within them. */
export interface RowOrder {
  readonly headRows: number;
  /** Place of each of transformers' heads in llama.cpp's order. */
  readonly places: readonly number[];
  /** Whether rows that rotate together lie side by side. */
  readonly paired: boolean;
}

const identity = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Heads of a tensor whose rows are in an order of that kind. */
const headsOf = (kind: RowOrderKind, { heads, kvHeads }: HeadCounts): number =>
  ({ queryPairs: heads, keyPairs: kvHeads, groups: heads + 2 * kvHeads })[kind];

/** The order of a tensor of so many rows; undefined where they are no whole heads. */
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

/** Where row `row` of transformers' order lies in llama.cpp's; heads of `headDim` rows. */
export function rotaryPairRow(row: number, headDim: number): number {
  const within = row % headDim;
  const half = headDim / 2;
  return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

/** The other way round. */
export function rotaryHalfRow(row: number, headDim: number): number {
  const within = row % headDim;
  return row - within + Math.floor(within / 2) + (within % 2) * (headDim / 2);
}

/** Rows of `rowBytes` in another order: row r of the result is row `from(r)`. */
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

/** Heads first .. first+count-1 of transformers' order as runs of heads that are neighbours in llama.cpp's too. */
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

/** Rows brought from transformers' order into llama.cpp's: whole heads where rows are paired, else all of a tensor. */
export function inGgufOrder(bytes: Uint8Array, rowBytes: number, order: RowOrder): Uint8Array {
  const { headRows, places, paired } = order;
  if (paired) return reorderedRows(bytes, rowBytes, row => rotaryHalfRow(row, headRows));
  const heads = new Array<number>(places.length);
  for (const [head, place] of places.entries()) heads[place] = head;
  return reorderedRows(bytes, headRows * rowBytes, place => heads[place]!);
}
