/**
 * llama.cpp rotates neighbouring rows of a head together (0 with 1, 2 with 3), transformers row r with row
 * r + half the head. Files of its llama family therefore hold the rows of q and k in another order.
 * Source: LlamaModel.permute in convert_hf_to_gguf.py.
 */

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
