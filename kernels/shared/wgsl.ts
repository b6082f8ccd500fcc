import type { DType } from '../../engine/index.js';

/**
 * WGSL that declares a read-only tensor and a function `name(i)` that returns its element i as f32 (u32 for dtype u32).
 * It unpacks 16-bit dtypes with core WGSL, so they work on adapters without shader-f16.
 */
export function scalarTensor(name: string, binding: number, dtype: DType): string {
  const declare = (type: string) =>
    `@group(0) @binding(${binding}) var<storage, read> ${name}_: array<${type}>;`;
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

/** WGSL that declares a read-only float tensor and a function `name(i) -> vec4f` that returns elements 4i .. 4i+3. */
export function vec4Tensor(name: string, binding: number, dtype: Exclude<DType, 'u32'>): string {
  const declare = (type: string) =>
    `@group(0) @binding(${binding}) var<storage, read> ${name}_: array<${type}>;`;
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
