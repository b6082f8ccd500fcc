import {
  type DType,
  decodeToF32,
  encodeFromF32,
  type Scope,
  seededRandom,
  type Tensor,
  tensorFromBytes,
} from '../../engine/index.js';

/** The numbers repeat after this many, to save time; a prime, so that rows still differ. */
const PERIOD = 1_000_003;

/** Deterministic standard normal numbers (Box-Muller). */
export function normals(count: number, seed = 1): Float32Array {
  const uniform = seededRandom(seed);
  const values = new Float32Array(count);
  for (let i = 0; i < Math.min(count, PERIOD); i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
    values[i] = radius * Math.cos(2 * Math.PI * uniform());
  }
  for (let filled = PERIOD; filled < count; filled *= 2) values.copyWithin(filled, 0, filled);
  return values;
}

/** Uploads `values` as `dtype` and returns them as rounded, so that a reference has the same inputs as the GPU. */
export async function caseTensor(
  scope: Scope,
  values: Float32Array,
  shape: readonly number[],
  dtype: Exclude<DType, 'u32'> = 'f32',
): Promise<{ tensor: Tensor; values: Float32Array }> {
  const bytes = encodeFromF32(values, dtype);
  const tensor = scope.own(await tensorFromBytes(scope.device, bytes, shape, dtype));
  return { tensor, values: decodeToF32(bytes, dtype) };
}
