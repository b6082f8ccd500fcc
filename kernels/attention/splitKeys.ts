import { type ProgramSpec, programFamily } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { workgroupReduction } from '../shared/workgroup.js';
import {
  bindingsOf,
  chunkOfKeys,
  firstSum,
  formKey,
  inFirstChunk,
  parameters,
  storeColumn,
  storeTotals,
} from './commonWgsl.js';

/**
 * Few queries (decoding) on GPUs: one workgroup per query, chunk of keys and up to 4 heads of a group. For each tile of 64
 * keys, every invocation scores one key; then the invocations share the columns of v (and the keys of the tile, if there
 * are more invocations than vec4 columns). Every element of k and v is loaded once for all heads of the workgroup. With
 * `partial`, workgroups share the keys and combine.ts adds up their results.
 */
export const splitKeys = programFamily(
  (headDim: number, group: number, partial: boolean, capped: boolean, sunk: boolean): ProgramSpec => {
    const form = { capped, sunk };
    const lanes = 64;
    const width = headDim / 4;
    const splits = Math.floor(lanes / width);
    const type = group === 1 ? 'f32' : `vec${group}f`;
    const part = (name: string, g: number) => (group === 1 ? name : `${name}[${g}]`);
    return {
      key: `attention split keys ${headDim} x ${group}${partial ? ', partial' : ''}${formKey(form)}`,
      bindings: bindingsOf(form),
      wgsl: () => /* wgsl */ `${parameters(form, type)}
var<workgroup> query: array<vec4f, ${group * width}>;
var<workgroup> weights: array<${type}, ${lanes}>;
var<workgroup> sums: array<vec4f, ${lanes}>;
${workgroupReduction('most', lanes, type, 'max(a, b)')}
${workgroupReduction('sum', lanes, type, 'a + b')}
@compute @workgroup_size(${lanes}) fn main(
  @builtin(workgroup_id) wid: vec3u,
  @builtin(num_workgroups) chunks: vec3u,
  @builtin(local_invocation_index) lane: u32,
) {
${chunkOfKeys(group, lanes)}
  for (var i = lane; i < ${group * width}u; i += ${lanes}u) { query[i] = q[first_head * ${width}u + i] * p.scale; }
  workgroupBarrier();
  let column = lane % ${width}u;
  let split = lane / ${width}u;
  var m = ${type}(${Array.from({ length: group }, (_, g) => inFirstChunk(form, g)).join(', ')});
  var l = ${type}(${firstSum(form, 'lane == 0u && wid.y == 0u')});
${lines(group, g => `  var acc${g} = vec4f(0.0);`)}
  for (var start = low; start < high; start += ${lanes}u) {
    let count = min(${lanes}u, high - start);
    var s = ${type}(LOWEST);
    if (lane < count) {
      let row = ((start + lane) * p.kv_heads + kv_head) * ${width}u;
      s = ${type}(0.0);
      for (var d = 0u; d < p.width; d++) {
        let key = k[row + d];
${lines(group, g => `        ${part('s', g)} += dot(query[${g * width}u + d], key);`)}
      }
      s = score(s);
    }
    let m_new = max(m, most(s, lane));
    let w = select(${type}(0.0), exp(s - m_new), lane < count);
    let old = exp(m - m_new);
    m = m_new;
    l = l * old + w;
    weights[lane] = w;
    workgroupBarrier();
${lines(group, g => `    acc${g} *= ${part('old', g)};`)}
    if (split < ${splits}u) {
      for (var i = split; i < count; i += ${splits}u) {
        let value = v[((start + i) * p.kv_heads + kv_head) * ${width}u + column];
        let weight = weights[i];
${lines(group, g => `        acc${g} += ${part('weight', g)} * value;`)}
      }
    }
  }
  let total = sum(l, lane);
${lines(
  group,
  g => `
  workgroupBarrier();
  sums[lane] = acc${g};
  workgroupBarrier();
  if (lane < ${width}u) {
    var all = sums[lane];
    for (var i = 1u; i < ${splits}u; i++) { all += sums[lane + i * ${width}u]; }
    ${storeColumn(partial, g, 'lane', 'all', part('total', g))}
  }
  ${storeTotals(partial, g, part('m', g), part('total', g))}`,
)}
}`,
    };
  },
);
