import {
  byteSize,
  type DType,
  ensure,
  programFamily,
  type Recorder,
  type Tensor,
} from '../../engine/index.js';
import { checkOperands, floats } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { scalarTensor } from '../shared/wgsl.js';

/** WGSL function `narrow(bits) -> u32` from f32 bits to 16 bits, rounded to nearest even. */
export const narrowTo: Record<'f16' | 'bf16', string> = {
  bf16: /* wgsl */ `
fn narrow(bits: u32) -> u32 {
  if ((bits & 0x7fffffffu) > 0x7f800000u) { return (bits >> 16u) | 0x40u; }
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}`,
  f16: /* wgsl */ `
fn narrow(bits: u32) -> u32 {
  let sign = (bits >> 16u) & 0x8000u;
  let size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) { return sign | 0x7e00u; }
  if (size >= 0x477ff000u) { return sign | 0x7c00u; }
  if (size >= 0x38800000u) { return sign | ((size - 0x38000000u + 0xfffu + ((size >> 13u) & 1u)) >> 13u); }
  if (size <= 0x33000000u) { return sign; }
  let shift = 126u - (size >> 23u);
  let significand = (size & 0x7fffffu) | 0x800000u;
  let kept = significand >> shift;
  let rest = significand & ((1u << shift) - 1u);
  let half = 1u << (shift - 1u);
  return sign | (kept + u32(rest > half || (rest == half && (kept & 1u) == 1u)));
}`,
};

const program = programFamily((from: DType, to: DType) => {
  if (to === 'f32') {
    return flatProgram({
      key: `convert ${from} f32`,
      bindings: ['read', 'write'],
      declarations: `${scalarTensor('x', 1, from)}
@group(0) @binding(2) var<storage, read_write> y: array<f32>;`,
      body: '  y[i] = x(i);',
    });
  }
  // An odd last element keeps the other half of its word, which belongs to the next row if this is a view.
  return flatProgram({
    key: `convert f32 ${to}`,
    bindings: ['read', 'write'],
    fields: 'size: u32',
    declarations: `
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
${narrowTo[to as 'f16' | 'bf16']}`,
    body: `
  let low = narrow(x[2u * i]);
  let next = 2u * i + 1u;
  if (next < p.size) { y[i] = low | (narrow(x[next]) << 16u); } else { y[i] = low | (y[i] & 0xffff0000u); }`,
  });
});

/**
 * Converts dtypes: target = source. One of the two must be f32, or both have the same dtype; either may be larger than a
 * binding.
 *
 * @throws RmError INVALID_ARGUMENT for other pairs of dtypes or different sizes.
 */
export function convert(rec: Recorder, source: Tensor, target: Tensor): void {
  checkOperands('convert', rec, { source, target });
  const [from, to] = [source.dtype, target.dtype];
  ensure(
    source.size === target.size &&
      (from === to ||
        (floats.includes(from as never) && floats.includes(to as never) && [from, to].includes('f32'))),
    `cannot convert '${source.label}' [${source.shape}] ${from} to '${target.label}' [${target.shape}] ${to}`,
    'Convert between f32 and f16 or bf16 of the same size.',
  );
  if (from === to) {
    rec.copy(source, target);
    return;
  }
  const { size } = source;
  // Pieces that fit one binding, at offsets that are multiples of 256 bytes in either dtype.
  const most = Math.floor(source.device.limits.maxStorageBufferBindingSize / byteSize('f32') / 128) * 128;
  for (let start = 0; start < size; start += most) {
    const piece = Math.min(most, size - start);
    const part = (of: Tensor) => (size <= most ? of : of.reshape([size]).rows(start, piece));
    const count = to === 'f32' ? piece : Math.ceil(piece / 2);
    runFlat(rec, program(from, to), [part(source), part(target)], count, [piece], {
      flops: 0,
      bytes: piece * (byteSize(from) + byteSize(to)),
    });
  }
}
