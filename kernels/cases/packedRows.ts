import { seededRandom, tensorFrom } from '../../engine/index.js';
import {
  type CodeFormat,
  codeBits,
  dequantizeRows,
  type PackedRows,
  recordBytes,
} from '../elementwise/dequantizeRows.js';
import type { FloatType } from '../shared/checks.js';
import type { KernelCase } from './case.js';

/** The parts of records, row by row. */
export interface PackedParts {
  readonly codes: readonly number[][];
  readonly scales: readonly number[][];
  readonly zeros?: readonly number[][];
  readonly order?: readonly number[];
}

/** Writes records bit by bit, as PackedRows describes them. */
export function packedRecords({ codes }: PackedRows, parts: PackedParts): Uint32Array {
  const size = codeBits(codes);
  const words = parts.codes.flatMap((row, r) => {
    const packed = new Uint32Array(Math.ceil((row.length * size) / 32));
    for (let at = 0; at < row.length * size; at++) {
      const bit = (row[Math.floor(at / size)]! >>> (at % size)) & 1;
      if (bit) packed[Math.floor(at / 32)]! |= 1 << (at % 32);
    }
    const floats = (values: readonly number[] = []) => [...new Uint32Array(Float32Array.from(values).buffer)];
    const order = new Uint16Array(2 * Math.ceil((parts.order?.length ?? 0) / 2));
    order.set(parts.order ?? []);
    return [
      ...packed,
      ...floats(parts.scales[r]),
      ...floats(parts.zeros?.[r]),
      ...new Uint32Array(order.buffer),
    ];
  });
  return Uint32Array.from(words);
}

/** The number of a code in f64, from the definition of its format. */
export function numberOf(format: CodeFormat, code: number): number {
  if (format === 'i8') return code < 128 ? code : code - 256;
  const float = /^e(\d)m(\d)$/.exec(format);
  if (!float) return code;
  const [exponentBits, mantissaBits] = [Number(float[1]), Number(float[2])];
  const bias = 2 ** (exponentBits - 1) - 1;
  const exponent = (code >> mantissaBits) & (2 ** exponentBits - 1);
  const mantissa = (code & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  const sign = code >> (exponentBits + mantissaBits) ? -1 : 1;
  if (format === 'e4m3' && (code & 127) === 127) return Number.NaN;
  if (format === 'e5m2' && exponent === 31) return mantissa === 0 ? sign * Infinity : Number.NaN;
  return exponent === 0 ? sign * mantissa * 2 ** (1 - bias) : sign * (1 + mantissa) * 2 ** (exponent - bias);
}

/** What dequantizeRows should give, each product rounded to f32. */
export const numbersOf = (
  { codes: format, groupColumns, zero }: PackedRows,
  { codes, scales, zeros, order }: PackedParts,
): Float32Array =>
  Float32Array.from(
    codes.flatMap((row, r) =>
      row.map((code, j) => {
        const group = order?.[j] ?? Math.floor(j / groupColumns);
        const subtracted = zero === 'stored' ? zeros![r]![group]! : zero;
        return (numberOf(format, code) - subtracted) * scales[r]![group]!;
      }),
    ),
  );

/** Random records; floats are finite. */
export function randomParts(format: PackedRows, rows: number, seed: number): PackedParts {
  const random = seededRandom(seed);
  const whole = (below: number) => Math.floor(below * random());
  const table = (columns: number, value: () => number) =>
    Array.from({ length: rows }, () => Array.from({ length: columns }, value));
  const code = (): number => {
    const drawn = whole(2 ** codeBits(format.codes));
    return Number.isFinite(numberOf(format.codes, drawn)) ? drawn : 0;
  };
  return {
    codes: table(format.columns, code),
    scales: table(format.groups, () => Math.fround((random() - 0.4) / 7)),
    ...(format.zero === 'stored' && { zeros: table(format.groups, () => whole(16)) }),
    ...(format.ordered && { order: Array.from({ length: format.columns }, () => whole(format.groups)) }),
  };
}

function packedRowCase(
  name: string,
  rows: number,
  format: Omit<PackedRows, 'groups'>,
  to: FloatType,
  bench = false,
): KernelCase {
  const full: PackedRows = { ...format, groups: Math.ceil(format.columns / format.groupColumns) };
  const size = rows * format.columns;
  return {
    kernel: 'dequantizeRows',
    name: `${rows}x${format.columns} ${name} to ${to}`,
    flops: 2 * size,
    bytes: rows * recordBytes(full) + size * (to === 'f32' ? 4 : 2),
    bench,
    tolerance: { f32: 1e-7, f16: 3e-4, bf16: 2.5e-3 }[to],
    setup(scope) {
      const parts = randomParts(full, rows, rows + format.columns);
      const packed = scope.own(tensorFrom(scope.device, packedRecords(full, parts)));
      const output = scope.tensor([rows, format.columns], to);
      return {
        run: rec => dequantizeRows(rec, packed, full, output),
        output,
        reference: () => ({ expected: numbersOf(full, parts) }),
      };
    },
  };
}

const plain = { zero: 0, ordered: false } as const;
const each = { zero: 'stored', ordered: false } as const;

export const packedRowCases: KernelCase[] = [
  packedRowCase('e4m3', 7, { codes: 'e4m3', columns: 129, groupColumns: 129, ...plain }, 'f32'),
  packedRowCase('e4m3', 576, { codes: 'e4m3', columns: 1536, groupColumns: 128, ...plain }, 'bf16', true),
  packedRowCase('e5m2', 1, { codes: 'e5m2', columns: 1000, groupColumns: 128, ...plain }, 'f32'),
  packedRowCase('e2m1', 129, { codes: 'e2m1', columns: 576, groupColumns: 32, ...plain }, 'bf16'),
  packedRowCase('i8', 7, { codes: 'i8', columns: 1000, groupColumns: 1000, ...plain }, 'f16'),
  packedRowCase('u8', 7, { codes: 'u8', columns: 576, groupColumns: 64, ...each }, 'f32'),
  packedRowCase('u4', 7, { codes: 'u4', columns: 129, groupColumns: 32, zero: 8, ordered: false }, 'f32'),
  packedRowCase('u4', 576, { codes: 'u4', columns: 1536, groupColumns: 128, ...each }, 'bf16', true),
  packedRowCase(
    'u4 ordered',
    129,
    { codes: 'u4', columns: 576, groupColumns: 64, zero: 'stored', ordered: true },
    'f16',
  ),
  packedRowCase('u3', 7, { codes: 'u3', columns: 129, groupColumns: 32, ...each }, 'f32'),
  packedRowCase('u2', 1, { codes: 'u2', columns: 7, groupColumns: 4, ...each }, 'bf16'),
];
