import {
  checkArguments,
  ensure,
  oneOf,
  programFamily,
  type Recorder,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { checkOperands, checkTensor, type FloatType, floats } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { narrowTo } from '../shared/wgsl.js';

/**
 * A block format: bytes and elements per block, and WGSL for elements of the block at byte `at`: `scales(at, j)` of the RUN
 * elements from j on, and `levels(at, j)` of the four from j on. An element is scales.x * level - scales.y.
 */
interface BlockLayout {
  readonly bytes: number;
  readonly elements: number;
  readonly wgsl: string;
}

/** Elements that an invocation reads; all have the same scales. */
const RUN = 16;

/** WGSL of nibbles j to j + 3 of 32: first the low nibbles of 16 bytes, then the high ones. */
const nibbles = (start: number) =>
  `((bytes(at + ${start}u + j % 16u) >> vec4u(4u * (j / 16u))) & vec4u(15u))`;
const fifthBits = (start: number) =>
  `(((vec4u(word(at + ${start}u) >> j) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) << vec4u(4u))`;

/** A format of 32 elements with a factor and, unless `middle` is subtracted from its levels, an offset. */
const small = (bytes: number, levels: string, middle?: number): BlockLayout => ({
  bytes,
  elements: 32,
  wgsl: /* wgsl */ `
fn scales(at: u32, j: u32) -> vec2f { return vec2f(half(at), ${middle === undefined ? '-half(at + 2u)' : '0.0'}); }
fn levels(at: u32, j: u32) -> vec4f { return vec4f(${levels})${middle ? ` - vec4f(${middle}.0)` : ''}; }`,
});

/** Q4_K and Q5_K: scale and minimum of each group of 32, 6 bits each, are packed into 12 bytes. */
const kBlock = (bytes: number, start: number, high: string): BlockLayout => ({
  bytes,
  elements: 256,
  wgsl: /* wgsl */ `
fn scales(at: u32, j: u32) -> vec2f {
  let g = j / 32u;
  let packed = at + 4u + g;
  var pair = vec2u(byte(packed) & 63u, byte(packed + 4u) & 63u);
  if (g >= 4u) {
    let both = byte(packed + 4u);
    pair = vec2u((both & 15u) | ((byte(packed - 4u) >> 6u) << 4u), (both >> 4u) | ((byte(packed) >> 6u) << 4u));
  }
  return vec2f(half(at), half(at + 2u)) * vec2f(pair);
}
fn levels(at: u32, j: u32) -> vec4f {
  let g = j / 32u;
  let low = (bytes(at + ${start}u + (g / 2u) * 32u + j % 32u) >> vec4u(4u * (g % 2u))) & vec4u(15u);
  return vec4f(low${high});
}`,
});

/** A quantised block format that kernels can read, by ggml's name. */
export type BlockFormat = 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K' | 'Q5_K' | 'Q6_K';

const layouts: Readonly<Record<BlockFormat, BlockLayout>> = {
  Q4_0: small(18, nibbles(2), 8),
  Q4_1: small(20, nibbles(4)),
  Q5_0: small(22, `${nibbles(6)} | ${fifthBits(2)}`, 16),
  Q5_1: small(24, `${nibbles(8)} | ${fifthBits(4)}`),
  Q8_0: small(34, 'signed(bytes(at + 2u + j))', 0),
  Q4_K: kBlock(144, 16, ''),
  Q5_K: kBlock(176, 48, ' | (((bytes(at + 16u + j % 32u) >> vec4u(g)) & vec4u(1u)) << vec4u(4u))'),
  Q6_K: {
    bytes: 210,
    elements: 256,
    wgsl: /* wgsl */ `
fn scales(at: u32, j: u32) -> vec2f {
  return vec2f(half(at + 208u) * f32(signed(vec4u(byte(at + 192u + j / 16u))).x), 0.0);
}
fn levels(at: u32, j: u32) -> vec4f {
  let part = j / 128u;
  let quarter = (j / 32u) % 4u;
  let low = (bytes(at + part * 64u + (quarter % 2u) * 32u + j % 32u) >> vec4u(4u * (quarter / 2u))) & vec4u(15u);
  let high = (bytes(at + 128u + part * 32u + j % 32u) >> vec4u(2u * quarter)) & vec4u(3u);
  return vec4f(low | (high << vec4u(4u))) - vec4f(32.0);
}`,
  },
};

/** WGSL that returns the four bytes at an even place; blocks of whole words have their levels at whole words. */
const unaligned = /* wgsl */ `
  let pair = vec2u(blocks[at / 4u], blocks[at / 4u + 1u]);
  return select(pair.x, (pair.x >> 16u) | (pair.y << 16u), at % 4u != 0u);`;

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
fn word(at: u32) -> u32 {
  ${layouts[format].bytes % 4 === 0 ? 'return blocks[at / 4u];' : unaligned}
}
fn bytes(at: u32) -> vec4u { return (vec4u(word(at)) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u); }
fn signed(x: vec4u) -> vec4i { return vec4i(x << vec4u(24u)) >> vec4u(24u); }
fn half(at: u32) -> f32 {
  // No block has an odd number of bytes.
  let bits = (blocks[at / 4u] >> (8u * (at % 4u))) & 0xffffu;
  let sign = (bits & 0x8000u) << 16u;
  let size = bits & 0x7fffu;
  if (size < 0x400u) {
    let small = f32(size) * 5.9604644775390625e-8;
    return select(small, -small, sign != 0u);
  }
  let special = select(0u, 0x38000000u, size >= 0x7c00u);
  return bitcast<f32>(sign | ((size << 13u) + 0x38000000u + special));
}
${layouts[format].wgsl}
${to === 'f32' ? '' : narrowTo[to]}`,
    body: `
  let block = ${RUN}u * i / ${layouts[format].elements}u;
  let at = block * ${layouts[format].bytes}u;
  let first = ${RUN}u * i - block * ${layouts[format].elements}u;
  let s = scales(at, first);
  for (var k = 0u; k < ${RUN}u; k += 4u) {
    let x = bitcast<vec4u>(s.x * levels(at, first + k) - vec4f(s.y));
    let to = ${RUN}u * i + k;
${
  to === 'f32'
    ? '    for (var n = 0u; n < 4u; n++) { y[to + n] = x[n]; }'
    : `    y[to / 2u] = narrow(x.x) | (narrow(x.y) << 16u);
    y[to / 2u + 1u] = narrow(x.z) | (narrow(x.w) << 16u);`
}
  }`,
  }),
);

/** Bytes of `elements` elements in a block format. */
export function blockBytes(format: BlockFormat, elements: number): number {
  checkArguments('blockBytes', { format, elements }, { format: oneOf(...blockFormats), elements: whole() });
  return (elements / layouts[format].elements) * layouts[format].bytes;
}

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
  runFlat(rec, program(format, out.dtype as FloatType), [blocks, out], out.size / RUN, [], {
    flops: 2 * out.size,
    bytes: bytes + out.byteLength,
  });
}
