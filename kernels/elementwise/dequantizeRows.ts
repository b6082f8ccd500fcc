import {
  checkArguments,
  ensure,
  type Form,
  flag,
  numeric,
  oneOf,
  programFamily,
  type Recorder,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { checkOperands, checkTensor, type FloatType, floats } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { narrowTo } from '../shared/wgsl.js';

/** How a number is coded: an unsigned or signed integer, or a float with so many bits of exponent and mantissa (OCP). */
export type CodeFormat =
  | ('u1' | 'u2' | 'u3' | 'u4' | 'u5' | 'u6' | 'u7' | 'u8' | 'i8')
  | ('e2m1' | 'e4m3' | 'e5m2');

/** Number of bits of each code. */
const bits: Readonly<Record<CodeFormat, number>> = {
  ...{ u1: 1, u2: 2, u3: 3, u4: 4, u5: 5, u6: 6, u7: 7, u8: 8, i8: 8 },
  ...{ e2m1: 4, e4m3: 8, e5m2: 8 },
};

/**
 * Packed rows: each row of a matrix is a record of 32-bit words with all that its numbers need.
 *
 *     codes | f32 scale of each group | f32 zero of each group, if `zero` is 'stored' | u16 group of each column, if `ordered`
 *
 * Each part begins with a word of its own. Codes follow each other without gaps from the lowest bit on, as in the layouts of
 * GPTQ and compressed-tensors. A number is (code - zero) * scale.
 */
export interface PackedRows {
  readonly codes: CodeFormat;
  readonly columns: number;
  readonly groups: number;
  /** Columns of a group; the last group may have fewer. Not used where columns are `ordered`. */
  readonly groupColumns: number;
  /** Of integers. */
  readonly zero: number | 'stored';
  readonly ordered: boolean;
}

const aCode = oneOf(...(Object.keys(bits) as CodeFormat[]));
const aZero: Form<unknown> = (value, place) =>
  typeof value === 'number' ? numeric(value, place) : oneOf('stored')(value, place);
const packedRows = settings<PackedRows>({
  codes: aCode,
  columns: whole(1),
  groups: whole(1),
  groupColumns: whole(1),
  zero: aZero,
  ordered: flag,
});

/** Where the parts of a record begin, in words, and how many words it has. */
export function recordWords(rows: PackedRows): {
  scales: number;
  zeros: number;
  order: number;
  end: number;
} {
  checkArguments('recordWords', { rows }, { rows: packedRows });
  const { codes, columns, groups, zero, ordered } = rows;
  const scales = Math.ceil((columns * bits[codes]) / 32);
  const zeros = scales + groups;
  const order = zero === 'stored' ? zeros + groups : zeros;
  return { scales, zeros, order, end: ordered ? order + Math.ceil(columns / 2) : order };
}

/** Bytes of a row. */
export const recordBytes = (rows: PackedRows): number => 4 * recordWords(rows).end;

/** Bits of a code. */
export function codeBits(codes: CodeFormat): number {
  checkArguments('codeBits', { codes }, { codes: aCode });
  return bits[codes];
}

/**
 * WGSL of `scaled(value, scale)`: the f32 bits of value * scale, from bits. A power of two moves the exponent of a value with
 * few digits, so that numbers below the smallest normal one come out exactly on devices that flush them to zero.
 */
const scaledFloat = /* wgsl */ `
fn scaled(value: u32, scale: u32) -> u32 {
  let exponent = (value >> 23u) & 255u;
  if (exponent == 255u) { return value; }
  let half = (scale & 0x7fffffffu) == 0x400000u;
  let isPower = half || ((scale & 0x7fffffu) == 0u && (scale & 0x7f800000u) != 0u);
  if (!isPower || exponent == 0u) { return bitcast<u32>(bitcast<f32>(value) * bitcast<f32>(scale)); }
  let sign = (value ^ scale) & 0x80000000u;
  let shifted = i32(exponent) + select(i32((scale >> 23u) & 255u), 0, half) - 127;
  if (shifted >= 255) { return sign | 0x7f800000u; }
  if (shifted >= 1) { return sign | (u32(shifted) << 23u) | (value & 0x7fffffu); }
  return sign | (((value & 0x7fffffu) | 0x800000u) >> min(u32(1 - shifted), 31u));
}`;

/** WGSL of `number(code)`, the f32 bits of a small float. */
const floatCodes: Readonly<Partial<Record<CodeFormat, string>>> = {
  e2m1: /* wgsl */ `
fn number(code: u32) -> u32 {
  let size = code & 7u;
  let sign = (code & 8u) << 28u;
  return sign | select((size << 22u) + 0x3f000000u, size * 0x3f000000u, size < 2u);
}`,
  e4m3: /* wgsl */ `
fn number(code: u32) -> u32 {
  let size = code & 127u;
  let sign = (code & 128u) << 24u;
  if (size == 127u) { return 0x7fc00000u; }
  if (size < 8u) { return sign | bitcast<u32>(f32(size) * 0.001953125); }
  return sign | ((size << 20u) + 0x3c000000u);
}`,
  e5m2: /* wgsl */ `
fn number(code: u32) -> u32 {
  let size = code & 127u;
  let sign = (code & 128u) << 24u;
  if (size < 4u) { return sign | bitcast<u32>(f32(size) * 0.0000152587890625); }
  return sign | ((size << 21u) + 0x38000000u + select(0u, 0x38000000u, size >= 124u));
}`,
};

/** WGSL of `code(at, j)`: code j of the record at word `at`. */
function codeAt(codes: CodeFormat): string {
  const size = bits[codes];
  const within = `let position = j * ${size}u;
  let shift = position % 32u;
  var found = rows[at + position / 32u] >> shift;`;
  const across = `if (shift + ${size}u > 32u) { found |= rows[at + position / 32u + 1u] << (32u - shift); }`;
  return `
fn code(at: u32, j: u32) -> u32 {
  ${within}
  ${32 % size === 0 ? '' : across}
  return found & ${2 ** size - 1}u;
}`;
}

const zeroOf = (zero: PackedRows['zero']): string =>
  zero === 'stored' ? 'bitcast<f32>(rows[at + p.zeros + group])' : `${zero}.0`;

const program = programFamily(
  (codes: CodeFormat, zero: PackedRows['zero'], ordered: boolean, to: FloatType) => {
    const isFloat = codes in floatCodes;
    const integer = codes === 'i8' ? 'f32(i32(q << 24u) >> 24u)' : 'f32(q)';
    return flatProgram({
      key: `dequantizeRows ${codes} ${zero} ${ordered ? 'ordered' : 'in order'} ${to}`,
      bindings: ['read', 'write'],
      fields: 'size: u32, columns: u32, words: u32, groupColumns: u32, scales: u32, zeros: u32, order: u32',
      declarations: /* wgsl */ `
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
${codeAt(codes)}
${isFloat ? `${floatCodes[codes]}${scaledFloat}` : ''}
fn value(element: u32) -> u32 {
  let row = element / p.columns;
  let j = element - row * p.columns;
  let at = row * p.words;
  let q = code(at, j);
  let group = ${ordered ? '(rows[at + p.order + j / 2u] >> (16u * (j % 2u))) & 0xffffu' : 'j / p.groupColumns'};
  let scale = rows[at + p.scales + group];
  ${isFloat ? 'return scaled(number(q), scale);' : `return bitcast<u32>((${integer} - ${zeroOf(zero)}) * bitcast<f32>(scale));`}
}
${to === 'f32' ? '' : narrowTo[to]}`,
      body:
        to === 'f32'
          ? '  y[i] = value(i);'
          : `
  let low = narrow(value(2u * i));
  let next = 2u * i + 1u;
  if (next < p.size) { y[i] = low | (narrow(value(next)) << 16u); } else { y[i] = low | (y[i] & 0xffff0000u); }`,
    });
  },
);

/**
 * Dequantises packed rows into `out`, whose elements are those of the records in `rows` one after the other, in f32, rounded
 * once to f16 or bf16.
 *
 * @throws RmError INVALID_ARGUMENT.
 */
export function dequantizeRows(rec: Recorder, rows: Tensor, format: PackedRows, out: Tensor): void {
  checkOperands('dequantizeRows', rec, { rows, out });
  checkTensor('dequantizeRows', 'rows', rows, [rows.size], ['u32']);
  checkTensor('dequantizeRows', 'out', out, out.shape, floats);
  checkArguments('dequantizeRows', { format }, { format: packedRows });
  const { columns, groups, groupColumns, codes, zero, ordered } = format;
  const count = out.size / columns;
  const bytes = count * recordBytes(format);
  ensure(
    Number.isInteger(count) && rows.byteLength >= bytes,
    `dequantizeRows: '${rows.label}' has ${rows.byteLength} bytes, ${out.size} elements in rows of ${columns} take ${bytes}`,
    'Pass whole rows.',
  );
  ensure(
    ordered ? groups <= 65536 : groups * groupColumns >= columns,
    `dequantizeRows: ${groups} groups of ${groupColumns} for ${columns} columns`,
    'Give every column a group.',
  );
  const { scales, zeros, order, end } = recordWords(format);
  const invocations = out.dtype === 'f32' ? out.size : Math.ceil(out.size / 2);
  const params = [out.size, columns, end, groupColumns, scales, zeros, order];
  runFlat(rec, program(codes, zero, ordered, out.dtype as FloatType), [rows, out], invocations, params, {
    flops: 2 * out.size,
    bytes: bytes + out.byteLength,
  });
}
