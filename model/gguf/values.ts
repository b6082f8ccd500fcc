/** Types of metadata values, by their number in the file. Source: ggml/docs/gguf.md. */
export const valueTypes = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
] as const;

export type ValueType = (typeof valueTypes)[number];
export type NumberType = Exclude<ValueType, 'bool' | 'string' | 'array'>;

export const numberBytes: Readonly<Record<NumberType, number>> = {
  ...{ u8: 1, i8: 1, u16: 2, i16: 2, u32: 4, i32: 4, f32: 4, u64: 8, i64: 8, f64: 8 },
};

/** A list in the metadata; its values are decoded on demand. */
export interface GgufArray {
  readonly of: ValueType;
  readonly length: number;
  values(): readonly unknown[];
}

export type GgufValue =
  | { readonly type: NumberType; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'array'; readonly value: GgufArray };

/** Creates a list from values. */
export const ggufArray = (of: ValueType, values: readonly unknown[]): GgufValue => ({
  type: 'array',
  value: { of, length: values.length, values: () => values },
});

/** Reads one little-endian number. Integers beyond 2^53 lose digits, which no value used here needs. */
export function readNumber(view: DataView, at: number, type: NumberType): number {
  switch (type) {
    case 'u8':
      return view.getUint8(at);
    case 'i8':
      return view.getInt8(at);
    case 'u16':
      return view.getUint16(at, true);
    case 'i16':
      return view.getInt16(at, true);
    case 'u32':
      return view.getUint32(at, true);
    case 'i32':
      return view.getInt32(at, true);
    case 'f32':
      return view.getFloat32(at, true);
    case 'u64':
      return Number(view.getBigUint64(at, true));
    case 'i64':
      return Number(view.getBigInt64(at, true));
    case 'f64':
      return view.getFloat64(at, true);
  }
}

/** Encodes one number, little-endian. */
export function numberToBytes(value: number, type: NumberType): Uint8Array {
  const bytes = new Uint8Array(numberBytes[type]);
  const view = new DataView(bytes.buffer);
  switch (type) {
    case 'u8':
      view.setUint8(0, value);
      break;
    case 'i8':
      view.setInt8(0, value);
      break;
    case 'u16':
      view.setUint16(0, value, true);
      break;
    case 'i16':
      view.setInt16(0, value, true);
      break;
    case 'u32':
      view.setUint32(0, value, true);
      break;
    case 'i32':
      view.setInt32(0, value, true);
      break;
    case 'f32':
      view.setFloat32(0, value, true);
      break;
    case 'u64':
      view.setBigUint64(0, BigInt(value), true);
      break;
    case 'i64':
      view.setBigInt64(0, BigInt(value), true);
      break;
    case 'f64':
      view.setFloat64(0, value, true);
      break;
  }
  return bytes;
}
