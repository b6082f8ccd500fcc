import { asU32 } from '../../engine/index.js';
import type { CodeFormat } from '../../kernels/index.js';
import type { CompressedLayout } from '../families/compression.js';
import { type CompressedTensor, columnOrder } from './compressedTensor.js';
import { codeInStream, transposed } from './rowRecords.js';
import { checkedGroups } from './scaledWeights.js';
import { plainFloats, type StoredPart, type StoredParts } from './storedParts.js';

export const gptqParts = ['qweight', 'qzeros', 'scales', 'g_idx'];

type Layout = Extract<CompressedLayout, { kind: 'gptq' }>;

/**
 * GPTQ: matrices [out, in] stored with their columns down, so many numbers in a word; scales and zeros for each group of
 * columns and each row. `g_idx` names the group of each column. Zeros of the first version are one too small, modulo 2^bits.
 *
 *     qweight [in bits / 32, out]   qzeros [groups, out bits / 32]   scales [groups, out]   g_idx [in]
 *
 * Source: gptqmodel/nn_modules/qlinear/torch.py. @throws RmError CHECKPOINT_CORRUPT.
 */
export async function gptqWeights(
  stored: StoredParts,
  module: string,
  layout: Layout,
): Promise<CompressedTensor> {
  const [codes, zeros, scales] = ['qweight', 'qzeros', 'scales'].map(part =>
    stored.require(module, part),
  ) as [StoredPart, StoredPart, StoredPart];
  const rows = codes.shape[1] ?? 0;
  const groups = scales.shape[0] ?? 0;
  const bits = layout.varied ? ((zeros.shape[1] ?? 0) * 32) / rows : layout.bits;
  const words = codes.shape[0] ?? 0;
  const columns = (words * 32) / bits;
  if (![2, 3, 4, 8].includes(bits) || !Number.isInteger(columns)) {
    throw stored.damaged(codes.name, `has shape [${codes.shape}], which is no matrix of ${bits} bits`);
  }
  const stated = layout.groupSize ?? columns;
  const groupColumns =
    layout.varied && Math.ceil(columns / stated) !== groups ? Math.ceil(columns / groups) : stated;
  stored.check(codes, ['I32'], [words, rows]);
  stored.check(scales, plainFloats, [Math.ceil(columns / groupColumns), rows]);
  stored.check(zeros, ['I32'], [groups, Math.ceil((rows * bits) / 32)]);
  const order = await orderOf(stored, module, columns, groups, groupColumns);
  return {
    rows,
    format: {
      ...{ codes: `u${bits}` as CodeFormat, columns, groups, groupColumns },
      ...{ zero: 'stored', ordered: 'order' in order },
    },
    parts: {
      codes: async (first, count) =>
        transposed(asU32(await stored.columns(codes, first, count)), words, count),
      scales: async (first, count) =>
        transposed(stored.scales(scales, await stored.columns(scales, first, count)), groups, count),
      zeros: (first, count) => readZeros(stored, zeros, bits, layout.zerosLessOne ? 1 : 0, first, count),
      ...order,
    },
  };
}

async function orderOf(
  stored: StoredParts,
  module: string,
  columns: number,
  groups: number,
  groupColumns: number,
): Promise<{ readonly order?: Uint16Array }> {
  const part = stored.find(`${module}.g_idx`);
  if (!part) return {};
  stored.check(part, ['I32'], [columns]);
  return columnOrder(checkedGroups(stored, part, await stored.integers(part), groups), groupColumns);
}

/** Zeros [count, groups] of rows that are packed along a stream for each group. */
async function readZeros(
  stored: StoredParts,
  part: StoredPart,
  bits: number,
  added: number,
  first: number,
  count: number,
): Promise<Float32Array> {
  const groups = part.shape[0]!;
  const from = Math.floor((first * bits) / 32);
  const many = Math.ceil(((first + count) * bits) / 32) - from;
  const words = asU32(await stored.columns(part, from, many));
  const out = new Float32Array(count * groups);
  for (let group = 0; group < groups; group++) {
    const begin = 32 * (group * many - from) + first * bits;
    for (let r = 0; r < count; r++) {
      out[r * groups + group] = (codeInStream(words, begin + r * bits, bits) + added) & (2 ** bits - 1);
    }
  }
  return out;
}
