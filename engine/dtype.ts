import { Float16Array } from '@petamoriken/float16';
import { checkArguments } from './arguments.js';
import { ensure, RmError } from './errors.js';
import { listOf, whole } from './form.js';

/** Element type of a tensor. f16 and bf16 are storage formats: kernels widen them to f32 and accumulate in f32. */
export type DType = 'f32' | 'f16' | 'bf16' | 'u32';
/** All element types. */
export const dtypes: readonly DType[] = ['f32', 'f16', 'bf16', 'u32'];

/** Bytes of one element. */
export function byteSize(dtype: DType): number {
  checkDtype(dtype);
  return dtype === 'f16' || dtype === 'bf16' ? 2 : 4;
}

function checkDtype(dtype: DType): void {
  ensure(dtypes.includes(dtype), `there is no dtype ${String(dtype)}`, `Dtypes are ${dtypes.join(', ')}.`);
}

/** Number of elements of a shape. */
export function elementCount(shape: readonly number[]): number {
  checkArguments('elementCount', { shape }, { shape: listOf(whole()) });
  return shape.reduce((a, b) => a * b, 1);
}

/** Bytes as a typed array: a view if they are aligned, else a copy. */
function words<T>(
  bytes: Uint8Array,
  View: { new (b: ArrayBufferLike, o: number, n: number): T; BYTES_PER_ELEMENT: number },
): T {
  const aligned = bytes.byteOffset % View.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new View(
    aligned.buffer,
    aligned.byteOffset,
    Math.floor(aligned.byteLength / View.BYTES_PER_ELEMENT),
  );
}

/** Bytes as f32 values: a view if they are aligned, else a copy. */
export const asF32 = (bytes: Uint8Array): Float32Array => words(bytes, Float32Array);
/** Bytes as u32 values: a view if they are aligned, else a copy. */
export const asU32 = (bytes: Uint8Array): Uint32Array => words(bytes, Uint32Array);
/** Bytes as the u16 values that f16 and bf16 are stored in: a view if they are aligned, else a copy. */
export const asU16 = (bytes: Uint8Array): Uint16Array => words(bytes, Uint16Array);
/** A view of a typed array's bytes. */
export const asBytes = (array: ArrayBufferView): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** Decodes little-endian bytes of any float dtype to f32 values, exactly. */
export function decodeToF32(bytes: Uint8Array, dtype: DType): Float32Array {
  checkDtype(dtype);
  ensure(bytes instanceof Uint8Array, 'what should be decoded is no Uint8Array', 'Pass bytes.');
  switch (dtype) {
    case 'f32':
      return asF32(bytes);
    case 'f16':
      return Float32Array.from(words(bytes, Float16Array as never) as Iterable<number>);
    case 'bf16': {
      const halves = asU16(bytes);
      const out = new Uint32Array(halves.length);
      for (let i = 0; i < halves.length; i++) out[i] = halves[i]! << 16;
      return new Float32Array(out.buffer);
    }
    case 'u32':
      throw new RmError('INVALID_ARGUMENT', 'u32 data cannot be read as floats', 'Use downloadU32.');
  }
}

/** Encodes f32 values as little-endian bytes of `dtype`, rounded to nearest even; NaN stays NaN. */
export function encodeFromF32(values: Float32Array, dtype: DType): Uint8Array {
  checkDtype(dtype);
  ensure(values instanceof Float32Array, 'what should be encoded is no Float32Array', 'Pass f32 values.');
  switch (dtype) {
    case 'f32':
      return asBytes(values);
    case 'f16':
      return asBytes(Float16Array.from(values) as unknown as ArrayBufferView);
    case 'bf16': {
      const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
      const out = new Uint16Array(values.length);
      for (let i = 0; i < bits.length; i++) {
        const b = bits[i]!;
        out[i] = (b & 0x7fffffff) > 0x7f800000 ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
      }
      return asBytes(out);
    }
    case 'u32':
      throw new RmError('INVALID_ARGUMENT', 'f32 values cannot be stored as u32', 'Use f32, f16 or bf16.');
  }
}
