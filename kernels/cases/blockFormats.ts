import { decodeToF32, elementCount, seededRandom, tensorFrom } from '../../engine/index.js';
import { type BlockFormat, blockBytes, blockFormats, dequantize } from '../elementwise/dequantize.js';
import type { FloatType } from '../shared/checks.js';
import type { KernelCase } from './case.js';

/** Offsets of the f16 scales in a block, where random bytes could be NaN. */
const scalesAt: Readonly<Record<BlockFormat, readonly number[]>> = {
  ...{ Q4_0: [0], Q4_1: [0, 2], Q5_0: [0], Q5_1: [0, 2], Q8_0: [0], Q4_K: [0, 2], Q5_K: [0, 2], Q6_K: [208] },
};

const half = (view: DataView, at: number): number =>
  decodeToF32(new Uint8Array(view.buffer, view.byteOffset + at, 2).slice(), 'f16')[0]!;

/** get_scale_min_k4 of ggml-quants.c: scale and minimum of group g. */
function scaleAndMin(view: DataView, start: number, g: number): [number, number] {
  const byte = (i: number) => view.getUint8(start + i);
  return g < 4
    ? [byte(g) & 63, byte(g + 4) & 63]
    : [(byte(g + 4) & 0xf) | ((byte(g - 4) >> 6) << 4), (byte(g + 4) >> 4) | ((byte(g) >> 6) << 4)];
}

/** Q4_0, Q4_1, Q5_0, Q5_1: two halves of 16 out of the nibbles of 16 bytes. */
function halves(
  view: DataView,
  nibbles: number,
  highBits: number | null,
  write: (i: number, q: number) => void,
) {
  const high = highBits === null ? 0 : view.getUint32(highBits, true);
  for (let i = 0; i < 16; i++) {
    const byte = view.getUint8(nibbles + i);
    write(i, (byte & 0xf) | (((high >>> i) & 1) << 4));
    write(i + 16, (byte >> 4) | (((high >>> (i + 16)) & 1) << 4));
  }
}

/** Q4_K and Q5_K: four runs of 64, first the low nibbles of 32 bytes, then the high ones. */
function kRuns(view: DataView, nibbles: number, highBits: number | null, out: Float64Array): void {
  const [d, dmin] = [half(view, 0), half(view, 2)];
  let at = 0;
  for (let run = 0; run < 4; run++) {
    for (let part = 0; part < 2; part++) {
      const [scale, min] = scaleAndMin(view, 4, 2 * run + part);
      for (let l = 0; l < 32; l++) {
        const low = (view.getUint8(nibbles + 32 * run + l) >> (4 * part)) & 0xf;
        const high = highBits === null ? 0 : (view.getUint8(highBits + l) >> (2 * run + part)) & 1;
        out[at++] = d * scale * (low + 16 * high) - dmin * min;
      }
    }
  }
}

function q6(view: DataView, out: Float64Array): void {
  const d = half(view, 208);
  for (let part = 0; part < 2; part++) {
    const [ql, qh, sc, y] = [64 * part, 128 + 32 * part, 192 + 8 * part, 128 * part];
    for (let l = 0; l < 32; l++) {
      const is = l < 16 ? 0 : 1;
      const [a, b, high] = [view.getUint8(ql + l), view.getUint8(ql + l + 32), view.getUint8(qh + l)];
      const q = [
        (a & 0xf) | ((high & 3) << 4),
        (b & 0xf) | (((high >> 2) & 3) << 4),
        (a >> 4) | (((high >> 4) & 3) << 4),
        (b >> 4) | (((high >> 6) & 3) << 4),
      ];
      for (let k = 0; k < 4; k++) {
        out[y + l + 32 * k] = d * view.getInt8(sc + is + 2 * k) * (q[k]! - 32);
      }
    }
  }
}

/** Scale and offset of the first four bytes: out = d * (q - zero) + m. */
function scaled(
  view: DataView,
  out: Float64Array,
  zero: number | null,
  nibbles: number,
  highBits: number | null,
) {
  const d = half(view, 0);
  const m = zero === null ? half(view, 2) : -d * zero;
  halves(view, nibbles, highBits, (i, q) => {
    out[i] = d * q + m;
  });
}

const readers: Readonly<Record<BlockFormat, (view: DataView, out: Float64Array) => void>> = {
  Q4_0: (view, out) => scaled(view, out, 8, 2, null),
  Q4_1: (view, out) => scaled(view, out, null, 4, null),
  Q5_0: (view, out) => scaled(view, out, 16, 6, 2),
  Q5_1: (view, out) => scaled(view, out, null, 8, 4),
  Q8_0: (view, out) => {
    const d = half(view, 0);
    for (let i = 0; i < 32; i++) out[i] = d * view.getInt8(2 + i);
  },
  Q4_K: (view, out) => kRuns(view, 16, null, out),
  Q5_K: (view, out) => kRuns(view, 48, 16, out),
  Q6_K: q6,
};

/** Dequantises `elements` elements in f64, with the loops of ggml-quants.c. */
export function dequantizedOnHost(bytes: Uint8Array, format: BlockFormat, elements: number): Float64Array {
  const out = new Float64Array(elements);
  const size = format.endsWith('K') ? 256 : 32;
  const stride = blockBytes(format, size);
  for (let block = 0; block < elements / size; block++) {
    const view = new DataView(bytes.buffer, bytes.byteOffset + block * stride, stride);
    readers[format](view, out.subarray(block * size, (block + 1) * size));
  }
  return out;
}

/** Random blocks: any bytes, with scales of either sign from subnormal f16 to 2. */
function randomBlocks(format: BlockFormat, elements: number, seed: number): Uint8Array {
  const random = seededRandom(seed);
  const bytes = Uint8Array.from({ length: blockBytes(format, elements) }, () => Math.floor(256 * random()));
  const stride = blockBytes(format, format.endsWith('K') ? 256 : 32);
  for (let block = 0; block < bytes.length; block += stride) {
    // The high byte of an f16 below 2: exponent 15 at most.
    for (const at of scalesAt[format]) bytes[block + at + 1]! &= 0xbf;
  }
  return bytes;
}

function dequantizeCase(
  format: BlockFormat,
  shape: readonly number[],
  to: FloatType,
  bench = false,
): KernelCase {
  const elements = elementCount(shape);
  return {
    kernel: 'dequantize',
    name: `${shape.join('x')} ${format} to ${to}`,
    flops: 2 * elements,
    bytes: blockBytes(format, elements) + elements * (to === 'f32' ? 4 : 2),
    bench,
    // The rounding error is at most half a unit in the last place, on average a third of that.
    tolerance: { f32: 1e-7, f16: 3e-4, bf16: 2.5e-3 }[to],
    setup(scope) {
      const bytes = randomBlocks(format, elements, elements);
      const words = new Uint32Array(Math.ceil(bytes.length / 4));
      new Uint8Array(words.buffer).set(bytes);
      const blocks = scope.own(tensorFrom(scope.device, words));
      const output = scope.tensor(shape, to);
      return {
        run: rec => dequantize(rec, blocks, format, output),
        output,
        reference: () => ({ expected: dequantizedOnHost(bytes, format, elements) }),
      };
    },
  };
}

export const blockFormatCases: KernelCase[] = blockFormats.flatMap(format => [
  dequantizeCase(format, [1, 256], 'f32'),
  dequantizeCase(format, [7, 512], 'f16'),
  dequantizeCase(format, [129, 256], 'bf16'),
  dequantizeCase(format, [576, 1536], 'f16', true),
]);
