import { ensure, programFamily, type Recorder, type Tensor } from '../../engine/index.js';
import { checkOperands, checkTensor, type FloatType, floats } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { narrowTo } from './convert.js';

/** A block format: bytes and elements per block, and WGSL of `value(at, j)`, element j of the block at byte `at`. */
interface BlockLayout {
  readonly bytes: number;
  readonly elements: number;
  readonly value: string;
}

/** WGSL of nibble j of 32: first the low nibbles of 16 bytes, then the high ones. */
const nibble = (start: number) => `((byte(at + ${start}u + j % 16u) >> (4u * (j / 16u))) & 15u)`;
const fifthBit = (start: number) => `(((word(at + ${start}u) >> j) & 1u) << 4u)`;

/** WGSL of scale and minimum of group g of a super-block: 6 bits each, packed into 12 bytes. */
const kScales = /* wgsl */ `
fn scaleAndMin(at: u32, g: u32) -> vec2f {
  if (g < 4u) { return vec2f(f32(byte(at + g) & 63u), f32(byte(at + g + 4u) & 63u)); }
  let both = byte(at + g + 4u);
  return vec2f(
    f32((both & 15u) | ((byte(at + g - 4u) >> 6u) << 4u)),
    f32((both >> 4u) | ((byte(at + g) >> 6u) << 4u)));
}`;

/** A quantised block format that kernels can read, by ggml's name. */
export type BlockFormat = 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K';

const layouts: Readonly<Record<BlockFormat, BlockLayout>> = {
  Q4_0: {
    bytes: 18,
    elements: 32,
    value: `fn value(at: u32, j: u32) -> f32 { return half(at) * (f32(${nibble(2)}) - 8.0); }`,
  },
  Q4_1: {
    bytes: 20,
    elements: 32,
    value: `fn value(at: u32, j: u32) -> f32 { return half(at) * f32(${nibble(4)}) + half(at + 2u); }`,
  },
  Q5_0: {
    bytes: 22,
    elements: 32,
    value: `fn value(at: u32, j: u32) -> f32 { return half(at) * (f32(${nibble(6)} | ${fifthBit(2)}) - 16.0); }`,
  },
  Q5_1: {
    bytes: 24,
    elements: 32,
    value: `fn value(at: u32, j: u32) -> f32 { return half(at) * f32(${nibble(8)} | ${fifthBit(4)}) + half(at + 2u); }`,
  },
  Q8_0: {
    bytes: 34,
    elements: 32,
    value: 'fn value(at: u32, j: u32) -> f32 { return half(at) * signed(at + 2u + j); }',
  },
  Q4_K: {
    bytes: 144,
    elements: 256,
    value: /* wgsl */ `${kScales}
fn value(at: u32, j: u32) -> f32 {
  let g = j / 32u;
  let s = scaleAndMin(at + 4u, g);
  let q = (byte(at + 16u + (g / 2u) * 32u + j % 32u) >> (4u * (g % 2u))) & 15u;
  return (half(at) * s.x) * f32(q) - half(at + 2u) * s.y;
}`,
  },
  Q5_K: {
    bytes: 176,
    elements: 256,
    value: /* wgsl */ `${kScales}
fn value(at: u32, j: u32) -> f32 {
  let g = j / 32u;
  let s = scaleAndMin(at + 4u, g);
  let low = (byte(at + 48u + (g / 2u) * 32u + j % 32u) >> (4u * (g % 2u))) & 15u;
  let high = (byte(at + 16u + j % 32u) >> g) & 1u;
  return (half(at) * s.x) * f32(low | (high << 4u)) - half(at + 2u) * s.y;
}`,
  },
  Q6_K: {
    bytes: 210,
    elements: 256,
    value: /* wgsl */ `
fn value(at: u32, j: u32) -> f32 {
  let part = j / 128u;
  let quarter = (j / 32u) % 4u;
  let low = (byte(at + part * 64u + (quarter % 2u) * 32u + j % 32u) >> (4u * (quarter / 2u))) & 15u;
  let high = (byte(at + 128u + part * 32u + j % 32u) >> (2u * quarter)) & 3u;
  return (half(at + 208u) * signed(at + 192u + j / 16u)) * (f32(low | (high << 4u)) - 32.0);
}`,
  },
};

/** All block formats that `dequantize` reads. */
export const blockFormats = Object.keys(layouts) as readonly BlockFormat[];

const program = programFamily((format: BlockFormat, to: FloatType) =>
  flatProgram({
    key: `dequantize ${format} ${to}`,
    bindings: ['read', 'write'],
    declarations: /* wgsl */ `
@group(0) @binding(1) var<storage, read> blocks: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
fn byte(at: u32) -> u32 { return (blocks[at / 4u] >> (8u * (at % 4u))) & 255u; }
fn signed(at: u32) -> f32 { return f32(i32(byte(at) << 24u) >> 24u); }
fn word(at: u32) -> u32 {
  return byte(at) | (byte(at + 1u) << 8u) | (byte(at + 2u) << 16u) | (byte(at + 3u) << 24u);
}
fn half(at: u32) -> f32 {
  let bits = byte(at) | (byte(at + 1u) << 8u);
  let sign = (bits & 0x8000u) << 16u;
  let size = bits & 0x7fffu;
  if (size < 0x400u) {
    let small = f32(size) * 5.9604644775390625e-8;
    return select(small, -small, sign != 0u);
  }
  let special = select(0u, 0x38000000u, size >= 0x7c00u);
  return bitcast<f32>(sign | ((size << 13u) + 0x38000000u + special));
}
${layouts[format].value}
${to === 'f32' ? '' : narrowTo[to]}`,
    body: `
  let block = 2u * i / ${layouts[format].elements}u;
  let at = block * ${layouts[format].bytes}u;
  let j = 2u * i - block * ${layouts[format].elements}u;
  let first = bitcast<u32>(value(at, j));
  let second = bitcast<u32>(value(at, j + 1u));
${to === 'f32' ? '  y[2u * i] = first;\n  y[2u * i + 1u] = second;' : '  y[i] = narrow(first) | (narrow(second) << 16u);'}`,
  }),
);

/** Bytes of `elements` elements in a block format. */
export const blockBytes = (format: BlockFormat, elements: number): number =>
  (elements / layouts[format].elements) * layouts[format].bytes;

/**
 * Dequantises blocks of a ggml format into `out`, any shape of f32, f16 or bf16; `blocks` are u32 words of at least
 * `blockBytes(format, out.size)` bytes. @throws RmError INVALID_ARGUMENT.
 */
export function dequantize(rec: Recorder, blocks: Tensor, format: BlockFormat, out: Tensor): void {
  checkOperands('dequantize', rec, { blocks, out });
  checkTensor('dequantize', 'blocks', blocks, [blocks.size], ['u32']);
  checkTensor('dequantize', 'out', out, out.shape, floats);
  const bytes = blockBytes(format, out.size);
  ensure(
    out.size % layouts[format].elements === 0 && blocks.byteLength >= bytes,
    `dequantize: '${blocks.label}' has ${blocks.byteLength} bytes, ${out.size} elements of ${format} take ${bytes}`,
    'Pass whole blocks for all elements.',
  );
  runFlat(rec, program(format, out.dtype as FloatType), [blocks, out], out.size / 2, [], {
    flops: 2 * out.size,
    bytes: bytes + out.byteLength,
  });
}
