import { asBytes } from '../../engine/index.js';
import { type PackedRows, recordWords } from '../../kernels/index.js';

/** Reads what the records of rows `first` to `first + count - 1` hold, row by row. */
export interface RowParts {
  /** Whole words for each row. */
  codes(first: number, count: number): Promise<Uint32Array>;
  /** [count, groups] */
  scales(first: number, count: number): Promise<Float32Array>;
  zeros?(first: number, count: number): Promise<Float32Array>;
  /** Group of each column. */
  readonly order?: Uint16Array;
}

/** Puts the parts of rows together in records, as kernels read them. */
export async function rowRecords(
  format: PackedRows,
  parts: RowParts,
  first: number,
  count: number,
): Promise<Uint8Array> {
  const at = recordWords(format);
  const out = new Uint32Array(count * at.end);
  const place = (values: Uint32Array, begin: number, size: number) => {
    for (let r = 0; r < count; r++) {
      out.set(values.subarray(r * size, (r + 1) * size), r * at.end + begin);
    }
  };
  const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);
  place(await parts.codes(first, count), 0, at.scales);
  place(bits(await parts.scales(first, count)), at.scales, format.groups);
  if (parts.zeros) place(bits(await parts.zeros(first, count)), at.zeros, format.groups);
  if (parts.order) {
    const halves = new Uint16Array(out.buffer);
    for (let r = 0; r < count; r++) halves.set(parts.order, 2 * (r * at.end + at.order));
  }
  return asBytes(out);
}

/** Turns a matrix [rows, columns] around. */
export function transposed<T extends Uint32Array | Float32Array>(
  values: T,
  rows: number,
  columns: number,
): T {
  const out = new (values.constructor as new (length: number) => T)(values.length);
  // Tiles whose rows and columns both stay in the cache.
  for (let c0 = 0; c0 < columns; c0 += TILE) {
    const c1 = Math.min(columns, c0 + TILE);
    for (let r0 = 0; r0 < rows; r0 += TILE) {
      const r1 = Math.min(rows, r0 + TILE);
      for (let c = c0; c < c1; c++) {
        for (let r = r0; r < r1; r++) out[c * rows + r] = values[r * columns + c]!;
      }
    }
  }
  return out;
}

const TILE = 32;

/** The unsigned integer of `size` bits at bit `position` of a stream, the lowest bits of a word first. */
export function codeInStream(words: Uint32Array, position: number, size: number): number {
  const [word, shift] = [position >>> 5, position & 31];
  const high = shift + size > 32 ? words[word + 1]! << (32 - shift) : 0;
  return ((words[word]! >>> shift) | high) & (2 ** size - 1);
}
