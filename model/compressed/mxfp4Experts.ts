import { asU32 } from '../../engine/index.js';
import { type ExpertPlace, fusedParts, partsOfExperts } from '../checkpoint/fusedExperts.js';
import type { CompressedTensor } from './compressedTensor.js';
import type { StoredPart, StoredParts } from './storedParts.js';

/** Numbers that share a scale. */
const BLOCK = 32;

/**
 * The experts of gpt-oss: `*_blocks` [experts, out, in / 32, 16] of two E2M1 codes to a byte, the first in its low half, and
 * `*_scales` [experts, out, in / 32], powers of two. Gate and up are rows in turn. Source:
 * transformers/integrations/mxfp4.py. @throws RmError CHECKPOINT_CORRUPT.
 */
export function mxfp4Experts(stored: StoredParts): {
  readonly names: readonly string[];
  readonly tensors: ReadonlyMap<string, CompressedTensor>;
} {
  const tensors = new Map<string, CompressedTensor>();
  const names = stored.checkpoint.names.flatMap(name => {
    if (name.endsWith('_scales') && stored.find(name.replace(/_scales$/, '_blocks'))) return [];
    const fused = name.endsWith('_blocks') ? fusedParts(name.slice(0, -'_blocks'.length)) : undefined;
    if (!fused) return [name];
    const [codes, scales] = partsOf(stored, name);
    return partsOfExperts(fused, codes.shape[0]!).map(({ own, ...place }) => {
      tensors.set(own, matrixOf(stored, codes, scales, place));
      return own;
    });
  });
  return { names, tensors };
}

function partsOf(stored: StoredParts, name: string): [codes: StoredPart, scales: StoredPart] {
  const codes = stored.find(name)!;
  const [experts = 0, rows = 0, blocks = 0] = codes.shape;
  stored.check(codes, ['U8'], [experts, rows, blocks, BLOCK / 2]);
  const module = name.slice(0, -'_blocks'.length);
  const scales = stored.find(`${module}_scales`);
  if (!scales)
    throw stored.damaged(`${module}_scales`, 'is missing, without which its weights cannot be read');
  stored.check(scales, ['U8'], [experts, rows, blocks]);
  return [codes, scales];
}

/** Every `stride`-th row of an expert, from `first` on. */
function matrixOf(
  stored: StoredParts,
  codes: StoredPart,
  scales: StoredPart,
  { expert, first, stride }: ExpertPlace,
): CompressedTensor {
  const [, rows = 0, groups = 0] = codes.shape;
  const read = async (part: StoredPart, from: number, count: number): Promise<Uint8Array> => {
    const bytes = part.byteLength / (part.shape[0]! * rows);
    const start = (expert * rows + from * stride) * bytes;
    const all = await stored.checkpoint.readRange(part.name, start, count * stride * bytes);
    const out = new Uint8Array(count * bytes);
    for (let r = 0; r < count; r++) {
      const at = (r * stride + first) * bytes;
      out.set(all.subarray(at, at + bytes), r * bytes);
    }
    return out;
  };
  return {
    rows: rows / stride,
    format: {
      ...{ codes: 'e2m1', columns: groups * BLOCK, groups, groupColumns: BLOCK },
      ...{ zero: 0, ordered: false },
    },
    parts: {
      codes: async (from, count) => asU32(await read(codes, from, count)),
      scales: async (from, count) => stored.scales(scales, await read(scales, from, count)),
    },
  };
}
