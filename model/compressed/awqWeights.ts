import { asU32 } from '../../engine/index.js';
import type { CompressedLayout } from '../families/compression.js';
import type { CompressedTensor } from './compressedTensor.js';
import { transposed } from './rowRecords.js';
import { plainFloats, type StoredPart, type StoredParts } from './storedParts.js';

export const awqParts = ['qweight', 'qzeros', 'scales'];

/** The nibble of a word that holds each of eight neighbouring rows. Source: awq/utils/packing_utils.py. */
const nibbles = [0, 4, 1, 5, 2, 6, 3, 7];

/**
 * AWQ in the layout "gemm": matrices [out, in] stored with their columns down, eight rows of a column in a word; scales and
 * zeros for each group of columns and each row.
 *
 *     qweight [in, out / 8]   qzeros [groups, out / 8]   scales [groups, out]
 *
 * Source: awq/modules/linear/gemm.py. @throws RmError CHECKPOINT_CORRUPT.
 */
export function awqWeights(
  stored: StoredParts,
  module: string,
  { groupSize }: Extract<CompressedLayout, { kind: 'awq' }>,
): CompressedTensor {
  const [codes, zeros, scales] = awqParts.map(part => stored.require(module, part)) as [
    StoredPart,
    StoredPart,
    StoredPart,
  ];
  const [columns = 0, eighths = 0] = codes.shape;
  const rows = 8 * eighths;
  const groupColumns = groupSize ?? columns;
  const groups = Math.ceil(columns / groupColumns);
  stored.check(codes, ['I32'], [columns, eighths]);
  stored.check(zeros, ['I32'], [groups, eighths]);
  stored.check(scales, plainFloats, [groups, rows]);
  return {
    rows,
    format: { codes: 'u4', columns, groups, groupColumns, zero: 'stored', ordered: false },
    parts: {
      codes: (first, count) => rowsOfWords(stored, codes, first, count),
      scales: async (first, count) =>
        transposed(stored.scales(scales, await stored.columns(scales, first, count)), groups, count),
      zeros: async (first, count) => {
        const packed = await rowsOfWords(stored, zeros, first, count);
        const words = packed.length / count;
        return Float32Array.from({ length: count * groups }, (_, at) => {
          const [row, group] = [Math.floor(at / groups), at % groups];
          return (packed[row * words + (group >>> 3)]! >>> (4 * (group & 7))) & 15;
        });
      },
    },
  };
}

/** Rows of 4-bit numbers, eight neighbouring columns in a word, out of a part whose words hold eight rows. */
async function rowsOfWords(
  stored: StoredParts,
  part: StoredPart,
  first: number,
  count: number,
): Promise<Uint32Array> {
  const columns = part.shape[0]!;
  const from = Math.floor(first / 8);
  const many = Math.ceil((first + count) / 8) - from;
  const stacked = asU32(await stored.columns(part, from, many));
  const words = Math.ceil(columns / 8);
  const out = new Uint32Array(count * words);
  const square = new Uint32Array(8);
  for (let word = 0; word < words; word++) {
    for (let block = 0; block < many; block++) {
      for (let c = 0; c < 8; c++) {
        const column = 8 * word + c;
        square[c] = column < columns ? stacked[column * many + block]! : 0;
      }
      transposeNibbles(square);
      for (let r = 0; r < 8; r++) {
        const row = 8 * (from + block) + r - first;
        if (row >= 0 && row < count) out[row * words + word] = square[nibbles[r]!]!;
      }
    }
  }
  return out;
}

/** Turns eight words of eight nibbles around: swaps squares of four, of two, then single ones. */
function transposeNibbles(words: Uint32Array): void {
  for (const [half, mask] of [
    [4, 0xffff],
    [2, 0xff00ff],
    [1, 0xf0f0f0f],
  ] as const) {
    const shift = 4 * half;
    for (let i = 0; i < 8; i++) {
      if (i & half) continue;
      const swapped = ((words[i]! >>> shift) ^ words[i + half]!) & mask;
      words[i + half]! ^= swapped;
      words[i]! ^= swapped << shift;
    }
  }
}
