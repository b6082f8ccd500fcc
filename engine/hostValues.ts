import { Float16Array } from '@petamoriken/float16';
import { asBytes, type DType, dtypes, encodeFromF32 } from './dtype.js';
import { ensure } from './errors.js';

/** Numbers of the host that a tensor can be made from. */
export type HostValues =
  | Float32Array
  | Float64Array
  | Uint32Array
  | Int32Array
  | Uint16Array
  | Uint8Array
  | Int16Array
  | Int8Array
  | readonly number[];

/** A Float16Array, the runtime's own or that of a library. */
const isFloat16 = (values: unknown): boolean =>
  values instanceof Float16Array || Object.prototype.toString.call(values) === '[object Float16Array]';

const isValues = (values: unknown): values is HostValues =>
  isFloat16(values) ||
  values instanceof Float32Array ||
  values instanceof Float64Array ||
  values instanceof Uint32Array ||
  values instanceof Int32Array ||
  values instanceof Uint16Array ||
  values instanceof Int16Array ||
  values instanceof Uint8Array ||
  values instanceof Int8Array ||
  (Array.isArray(values) && values.every(value => typeof value === 'number'));

/**
 * The bytes of values in a dtype, without `dtype` in that of their own type. Floats are rounded to nearest even.
 *
 * @throws RmError INVALID_ARGUMENT for other things than numbers, for integers whose dtype is not said, and for values that
 *   u32 cannot hold.
 */
export function encodeValues(
  values: HostValues,
  dtype: DType | undefined,
  label: string,
): { bytes: Uint8Array; dtype: DType } {
  ensure(
    isValues(values),
    `'${label}' is no array of numbers`,
    'Pass a typed array of numbers, or a list of them.',
  );
  ensure(
    dtype === undefined || dtypes.includes(dtype),
    `'${label}' should have the dtype ${String(dtype)}`,
    `Dtypes are ${dtypes.join(', ')}.`,
  );
  const chosen = dtype ?? ownType(values, label);
  if (values instanceof Uint32Array && chosen === 'u32') return { bytes: asBytes(values), dtype: chosen };
  if (chosen !== 'u32') {
    const floats = values instanceof Float32Array ? values : Float32Array.from(values);
    return { bytes: encodeFromF32(floats, chosen), dtype: chosen };
  }
  const words = Uint32Array.from(values);
  const lost = words.findIndex((word, i) => word !== values[i]);
  ensure(
    lost < 0,
    `'${label}' has ${values[lost]} at ${lost}, which u32 cannot hold`,
    'Pass whole numbers of 0 or more.',
  );
  return { bytes: asBytes(words), dtype: chosen };
}

function ownType(values: HostValues, label: string): DType {
  if (values instanceof Uint32Array) return 'u32';
  if (isFloat16(values)) return 'f16';
  ensure(
    Array.isArray(values) || values instanceof Float32Array || values instanceof Float64Array,
    `'${label}' is an array of small or signed integers, for which there is no dtype`,
    "Say what they should become: `dtype` 'f32' or 'u32'.",
  );
  return 'f32';
}
