import { type ProgramSpec, programFamily } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
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
 * Few queries (decoding) on a driver that runs on the CPU, where barriers between subgroups are expensive: a workgroup is
 * one subgroup of `subgroup` lanes and takes one query, chunk of keys and up to 4 heads of a group. A lane scores four
 * keys of a tile; the weights go through workgroup memory to the lanes that own columns of v. Every element of k and v is
 * loaded once for all heads of the workgroup. With `partial`, workgroups share the keys and combine.ts adds up their
 * results. Needs: subgroups of one fixed size.
 */
export const subgroupKeys = programFamily(
  (
    headDim: number,
    group: number,
    partial: boolean,
    subgroup: number,
    capped: boolean,
    sunk: boolean,
  ): ProgramSpec => {
    const form = { capped, sunk };
    const width = headDim / 4;
    const columns = Math.ceil(width / subgroup);
    const tile = 4 * subgroup;
    const type = group === 1 ? 'f32' : `vec${group}f`;
    const part = (name: string, g: number) => (group === 1 ? name : `${name}[${g}]`);
    const heads = (line: (g: number) => string) => lines(group, line);
    const keys = (line: (n: number) => string) => lines(4, line);
    const cols = (line: (c: number) => string) => lines(columns, line);
    const weightsOfKey = (n: number) => Array.from({ length: group }, (_, g) => `w${g}[${n}]`).join(', ');
    return {
      key: `attention subgroup keys ${headDim} x ${group} by ${subgroup}${partial ? ', partial' : ''}${formKey(form)}`,
      bindings: bindingsOf(form),
      wgsl: () => /* wgsl */ `enable subgroups;
${parameters(form, 'vec4f')}
var<workgroup> weights: array<${type}, ${tile}>;
@compute @workgroup_size(${subgroup}) fn main(
  @builtin(workgroup_id) wid: vec3u,
  @builtin(num_workgroups) chunks: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
${chunkOfKeys(group, tile)}
${heads(
  g => `
  let q_at${g} = (first_head + ${g}u) * p.width;
  var m${g} = ${inFirstChunk(form, g)};
  var l${g} = ${firstSum(form, 'lane == 0u && wid.y == 0u')};
${cols(c => `  var acc${g}_${c} = vec4f(0.0);`)}`,
)}
  for (var start = low; start < high; start += ${tile}u) {
    let key = vec4u(start + 4u * lane) + vec4u(0u, 1u, 2u, 3u);
    let inside = key < vec4u(high);
    let key_at = (min(key, vec4u(high - 1u)) * p.kv_heads + kv_head) * p.width;
${heads(g => `    var s${g} = vec4f(0.0);`)}
    for (var d = 0u; d < p.width; d++) {
${keys(n => `      let k${n} = k[key_at[${n}] + d];`)}
${heads(
  g => `
      let q${g} = q[q_at${g} + d];
      s${g} += vec4f(dot(q${g}, k0), dot(q${g}, k1), dot(q${g}, k2), dot(q${g}, k3));`,
)}
    }
${heads(
  g => `
    s${g} = select(vec4f(LOWEST), score(s${g} * p.scale), inside);
    let most${g} = max(m${g}, subgroupMax(max(max(s${g}.x, s${g}.y), max(s${g}.z, s${g}.w))));
    let w${g} = select(vec4f(0.0), exp(s${g} - most${g}), inside);
    let old${g} = exp(m${g} - most${g});
    m${g} = most${g};
    l${g} = l${g} * old${g} + (w${g}.x + w${g}.y) + (w${g}.z + w${g}.w);
${cols(c => `    acc${g}_${c} *= old${g};`)}`,
)}
    workgroupBarrier();
${keys(n => `    weights[4u * lane + ${n}u] = ${type}(${weightsOfKey(n)});`)}
    workgroupBarrier();
    let count = min(${tile}u, high - start);
    for (var n = 0u; n < count; n++) {
      let row = ((start + n) * p.kv_heads + kv_head) * p.width;
      let weight = weights[n];
${cols(
  c => `
      let v${c} = v[row + min(lane + ${c * subgroup}u, p.width - 1u)];
${heads(g => `      acc${g}_${c} += ${part('weight', g)} * v${c};`)}`,
)}
    }
  }
${heads(
  g => `
  let total${g} = subgroupAdd(l${g});
${cols(
  c => `
  if (lane + ${c * subgroup}u < p.width) {
    ${storeColumn(partial, g, `lane + ${c * subgroup}u`, `acc${g}_${c}`, `total${g}`)}
  }`,
)}
  ${storeTotals(partial, g, `m${g}`, `total${g}`)}`,
)}
}`,
    };
  },
);
