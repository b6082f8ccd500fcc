import { checkArguments, type DType, dtypes, oneOf, textLike, whole } from '../../engine/index.js';

/** The form of a name in WGSL. */
export const aName = textLike(/^[A-Za-z_]\w*$/, 'a name in WGSL');
const tensorForms = {
  name: aName,
  binding: whole(0, 1000),
  dtype: oneOf(...dtypes),
  access: oneOf('read', 'read_write'),
};

/** The WGSL type in which kernels compute elements of a tensor: one, or four of a row. */
export const elementType = (dtype: DType, vector: boolean): 'f32' | 'u32' | 'vec4f' | 'vec4u' =>
  dtype === 'u32' ? (vector ? 'vec4u' : 'u32') : vector ? 'vec4f' : 'f32';

/**
 * WGSL that declares a tensor, by default read-only, and a function `name(i)` that returns its element i as f32 (u32 for dtype u32).
 * It unpacks 16-bit dtypes with core WGSL, so they work on adapters without shader-f16.
 */
export function scalarTensor(
  name: string,
  binding: number,
  dtype: DType,
  access: 'read' | 'read_write' = 'read',
): string {
  checkArguments('scalarTensor', { name, binding, dtype, access }, tensorForms);
  const declare = (type: string) =>
    `@group(0) @binding(${binding}) var<storage, ${access}> ${name}_: array<${type}>;`;
  switch (dtype) {
    case 'f32':
      return `${declare('f32')}\nfn ${name}(i: u32) -> f32 { return ${name}_[i]; }`;
    case 'f16':
      return `${declare('u32')}\nfn ${name}(i: u32) -> f32 { return unpack2x16float(${name}_[i >> 1u])[i & 1u]; }`;
    case 'bf16':
      return `${declare('u32')}
fn ${name}(i: u32) -> f32 { return bitcast<f32>((${name}_[i >> 1u] >> ((i & 1u) << 4u)) << 16u); }`;
    case 'u32':
      return `${declare('u32')}\nfn ${name}(i: u32) -> u32 { return ${name}_[i]; }`;
  }
}

/** The same with a function `name(i)` that returns elements 4i .. 4i+3 as vec4f (vec4u for dtype u32). */
export function vec4Tensor(
  name: string,
  binding: number,
  dtype: DType,
  access: 'read' | 'read_write' = 'read',
): string {
  checkArguments('vec4Tensor', { name, binding, dtype, access }, tensorForms);
  const declare = (type: string) =>
    `@group(0) @binding(${binding}) var<storage, ${access}> ${name}_: array<${type}>;`;
  switch (dtype) {
    case 'f32':
      return `${declare('vec4f')}\nfn ${name}(i: u32) -> vec4f { return ${name}_[i]; }`;
    case 'f16':
      return `${declare('vec2u')}
fn ${name}(i: u32) -> vec4f {
  let w = ${name}_[i];
  return vec4f(unpack2x16float(w.x), unpack2x16float(w.y));
}`;
    case 'bf16':
      return `${declare('vec2u')}
fn ${name}(i: u32) -> vec4f {
  let w = ${name}_[i];
  return bitcast<vec4f>(vec4u(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}`;
    case 'u32':
      return `${declare('vec4u')}\nfn ${name}(i: u32) -> vec4u { return ${name}_[i]; }`;
  }
}

/** Joins `count` lines; unrolls WGSL by hand, since drivers do not unroll loops over register arrays. */
export const lines = (count: number, line: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => line(i)).join('\n');

/** WGSL parameters of `main` for a grid made by `flatGrid`; `flatGroup` is the flat workgroup index. */
export const flatBuiltins =
  '@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32';
/** WGSL of the flat workgroup index; needs `flatBuiltins`. */
export const flatGroup = '(wid.y * groups.x + wid.x)';

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
