import { softcapWgsl } from '../shared/mathWgsl.js';

/**
 * WGSL of the parameters, the inputs and the softmax. `side` is 8 and `width` is headDim / 4; both are parameters so that
 * the compiler does not know them: see attention/commonWgsl.ts.
 */
export const parameters = (capped: boolean): string => /* wgsl */ `
struct Params {
  queries: u32, keys: u32, heads: u32, kv_heads: u32, width: u32, side: u32, scale: f32, first_tile: u32, cap: f32
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
@group(0) @binding(4) var<storage, read> ranges: array<vec2u>;
// exp(-NEVER) is 0 and never meets infinity, which compilers may assume not to occur.
const NEVER = 1.0e38;
${capped ? softcapWgsl('vec4f') : ''}
// The softmax input of products, and its slope.
fn score(product: vec4f) -> vec4f { return ${capped ? 'softcap(product * p.scale, p.cap)' : 'product * p.scale'}; }
fn score_slope(score: vec4f) -> vec4f {
  return ${capped ? 'p.scale * (1.0 - score / p.cap) * (1.0 + score / p.cap)' : 'vec4f(p.scale)'};
}
// The softmax of scores; \`total\` is the logarithm of the sum of exponentials, or NEVER for a row without keys.
fn weight(score: vec4f, total: vec4f, seen: vec4<bool>) -> vec4f {
  return exp(select(vec4f(-NEVER), score - total, seen));
}`;
