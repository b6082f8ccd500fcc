import { isDeepStrictEqual } from 'node:util';
import { byteSize, decodeToF32, elementCount, PIECE } from '../../engine/index.js';
import type { Checkpoint } from './checkpoint.js';

/** Whether two tensors hold the same numbers in the same shape; reads no further than the first difference. */
export async function sameValues(checkpoint: Checkpoint, a: string, b: string): Promise<boolean> {
  const [x, y] = [checkpoint.info(a), checkpoint.info(b)];
  if (x.blocks || y.blocks || !isDeepStrictEqual(x.shape, y.shape)) return false;
  const total = elementCount(x.shape);
  const step = Math.floor(PIECE / 4);
  for (let at = 0; at < total; at += step) {
    const count = Math.min(step, total - at);
    const read = ({ name, dtype }: typeof x) =>
      checkpoint.readRange(name, at * byteSize(dtype), count * byteSize(dtype));
    const [left, right] = [await read(x), await read(y)];
    if (x.dtype === y.dtype && Buffer.compare(left, right) === 0) continue;
    if (x.dtype === 'u32' || y.dtype === 'u32') return false;
    const numbers = decodeToF32(right, y.dtype);
    if (!decodeToF32(left, x.dtype).every((value, i) => value === numbers[i])) return false;
  }
  return true;
}

/** Whether a tensor holds nothing but zeros; reads no further than the first other number. */
export async function isZero(checkpoint: Checkpoint, name: string): Promise<boolean> {
  const { byteLength, ...type } = checkpoint.opaque(name) ?? checkpoint.info(name);
  const isFloat = 'dtype' in type && type.dtype !== 'u32' && !type.blocks;
  for (let at = 0; at < byteLength; at += PIECE) {
    const bytes = await checkpoint.readRange(name, at, Math.min(PIECE, byteLength - at));
    if (bytes.every(byte => byte === 0)) continue;
    // -0 has a byte of its own.
    if (!isFloat || !decodeToF32(bytes, type.dtype).every(value => value === 0)) return false;
  }
  return true;
}
