import { f32Bits, programFamily, type Recorder, type Tensor } from '../../engine/index.js';
import { checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, flatType, runFlat } from '../shared/flat.js';

/** WGSL function `softcap(x: type, cap: f32) -> type`, which is cap * tanh(x / cap), for f32 and its vectors. */
export const softcapWgsl = (type: string): string => /* wgsl */ `
fn softcap(x: ${type}, cap: f32) -> ${type} {
  let z = min(abs(x / cap), ${type}(10.0));
  let s = z * z;
  let series = ((((-5.70498872745e-3 * s + 2.06390887954e-2) * s - 5.37397155531e-2) * s + 1.33314422036e-1) * s
    - 3.33332819422e-1) * s * z + z;
  let beyond = 1.0 - 2.0 / (exp(2.0 * z) + 1.0);
  return cap * sign(x) * select(beyond, series, z < ${type}(0.625));
}`;

const backward = programFamily((type: 'f32' | 'vec4f') =>
  flatProgram({
    key: `softcapBackward ${type}`,
    bindings: ['read', 'write'],
    fields: 'factor: f32, cap: f32',
    declarations: `@group(0) @binding(1) var<storage, read> capped: array<${type}>;
@group(0) @binding(2) var<storage, read_write> gradient: array<${type}>;`,
    body: `
  let t = capped[i] / p.cap;
  gradient[i] = gradient[i] * p.factor * (1.0 - t) * (1.0 + t);`,
  }),
);

const program = programFamily((type: 'f32' | 'vec4f') =>
  flatProgram({
    key: `softcap ${type}`,
    bindings: ['write'],
    fields: 'factor: f32, cap: f32',
    declarations: `@group(0) @binding(1) var<storage, read_write> x: array<${type}>;
${softcapWgsl(type)}`,
    body: '  x[i] = softcap(p.factor * x[i], p.cap);',
  }),
);

/** Caps values smoothly, in place: x = cap * tanh(factor * x / cap); x f32, cap above 0. */
export function softcap(rec: Recorder, x: Tensor, cap: number, factor = 1): void {
  checkOperands('softcap', rec, { x });
  checkTensor('softcap', 'x', x, x.shape);
  const { type, width } = flatType(x.size);
  runFlat(rec, program(type), [x], x.size / width, [f32Bits(factor), f32Bits(cap)], {
    flops: 12 * x.size,
    bytes: 8 * x.size,
  });
}

/**
 * Backward pass of `softcap`, in place: turns the gradient of its result `capped` into that of x, by multiplying with
 * factor (1 - (capped / cap)^2); both f32.
 */
export function softcapBackward(
  rec: Recorder,
  capped: Tensor,
  gradient: Tensor,
  cap: number,
  factor = 1,
): void {
  checkTensor('softcapBackward', 'gradient', gradient, capped.shape);
  const { type, width } = flatType(gradient.size);
  runFlat(rec, backward(type), [capped, gradient], gradient.size / width, [f32Bits(factor), f32Bits(cap)], {
    flops: 6 * gradient.size,
    bytes: 12 * gradient.size,
  });
}
