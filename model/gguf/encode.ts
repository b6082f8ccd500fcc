import { type DType, decodeToF32, encodeFromF32 } from '../../engine/index.js';

/** A type that tensors can be written in. */
export type WrittenType = 'F32' | 'F16' | 'BF16' | 'Q8_0';

/** The type that stores a dtype's numbers unchanged. */
export const typeOfDtype = (dtype: DType): WrittenType =>
  (({ f32: 'F32', f16: 'F16', bf16: 'BF16', u32: 'F32' }) as const)[dtype];

/**
 * Quantises blocks of 32: one f16 scale d = max |x| / 127 and 32 bytes round(x / d), halves away from zero.
 * Source: quantize_row_q8_0_ref of ggml-quants.c.
 */
function quantizeQ8(values: Float32Array): Uint8Array {
  const blocks = values.length / 32;
  const scales = new Float32Array(blocks);
  const out = new Uint8Array(blocks * 34);
  for (let block = 0; block < blocks; block++) {
    let largest = 0;
    for (let i = 0; i < 32; i++) largest = Math.max(largest, Math.abs(values[32 * block + i]!));
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    scales[block] = scale;
    for (let i = 0; i < 32; i++) {
      const value = Math.fround(values[32 * block + i]! * inverse);
      out[34 * block + 2 + i] = Math.trunc(value + (value < 0 ? -0.5 : 0.5));
    }
  }
  const halves = encodeFromF32(scales, 'f16');
  for (let block = 0; block < blocks; block++) out.set(halves.subarray(2 * block, 2 * block + 2), 34 * block);
  return out;
}

/** Encodes numbers of a dtype in a GGUF type; Q8_0 needs whole blocks of 32. */
export function encodeAs(bytes: Uint8Array, dtype: DType, type: WrittenType): Uint8Array {
  if (typeOfDtype(dtype) === type) return bytes;
  const values = decodeToF32(bytes, dtype);
  if (type === 'Q8_0') return quantizeQ8(values);
  return encodeFromF32(values, ({ F32: 'f32', F16: 'f16', BF16: 'bf16' } as const)[type]);
}

/** Like encodeAs, with `offset` added to every number. */
export function shifted(bytes: Uint8Array, dtype: DType, offset: number, type: WrittenType): Uint8Array {
  const values = decodeToF32(bytes, dtype).map(value => value + offset);
  return encodeAs(encodeFromF32(values, 'f32'), 'f32', type);
}
