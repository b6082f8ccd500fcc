import { type ProgramSpec, programFamily } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { bindingsOf, firstScore, firstSum, formKey, keysOfTile, parameters } from './commonWgsl.js';

/** Rows of a workgroup: enough that a load serves many products, but with few accumulators. */
export const broadcastRows = (headDim: number, subgroup: number): number =>
  Math.ceil(headDim / 4 / subgroup) <= 4 ? 16 : 8;

/**
 * Many queries on a driver that runs on the CPU, where every load is a gather: a workgroup is one subgroup of
 * `subgroup` lanes and takes 16 (or 8) rows of one key/value head. A row is one query of one head, numbered query by
 * query, head by head. A tile has 4 keys per lane. Each lane reads q for one row and passes it on by subgroupBroadcast.
 * The weights go through workgroup memory to the lanes that own columns of v, which pass them on in the same way. Ten
 * loads of f32 serve 128 products. `side` is the number of rows. Needs: subgroups of one fixed size.
 */
export const broadcast = programFamily(
  (headDim: number, subgroup: number, capped: boolean, sunk: boolean): ProgramSpec => {
    const form = { capped, sunk };
    const width = headDim / 4;
    const columns = Math.ceil(width / subgroup);
    const count = broadcastRows(headDim, subgroup);
    const rows = (line: (r: number) => string) => lines(count, line);
    const panels = (line: (t: number) => string) => lines(count / subgroup, line);
    const cols = (line: (c: number) => string) => lines(columns, line);
    const keys = (line: (n: number) => string) => lines(4, line);
    /** WGSL of the value for row r, which lane r % subgroup holds in its variable `name` of panel r / subgroup. */
    const ofRow = (name: string, r: number) =>
      `subgroupBroadcast(${name}${Math.floor(r / subgroup)}, ${r % subgroup}u)`;
    return {
      key: `attention broadcast ${headDim} by ${subgroup}${formKey(form)}`,
      bindings: bindingsOf(form),
      wgsl: () => /* wgsl */ `enable subgroups;
${parameters(form, 'vec4f')}
var<workgroup> weights: array<f32, ${4 * subgroup * count}>;
@compute @workgroup_size(${subgroup}) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(subgroup_invocation_id) lane: u32,
) {
  ${keysOfTile(count)}
  let last_row = end_row - 1u;
${panels(
  t => `
  let row${t} = min(first_row + lane + ${t * subgroup}u, last_row);
  let at${t} = ((row${t} / group) * p.heads + kv_head * group + row${t} % group) * p.width;
  let range${t} = ranges[row${t} / group];`,
)}
${rows(
  r => `
  let bounds${r} = ${ofRow('range', r)};
  var m${r} = ${firstScore(form, `kv_head * group + min(first_row + ${r}u, last_row) % group`)};
  var l${r} = ${firstSum(form, 'lane == 0u')};
${cols(c => `  var acc${r}_${c} = vec4f(0.0);`)}`,
)}
  for (var start = low; start < high; start += ${4 * subgroup}u) {
    let key = vec4u(start + 4u * lane) + vec4u(0u, 1u, 2u, 3u);
    let key_at = (min(key, vec4u(high - 1u)) * p.kv_heads + kv_head) * p.width;
${rows(r => `    var s${r} = vec4f(0.0);`)}
    for (var d = 0u; d < p.width; d++) {
${panels(t => `      let q${t} = q[at${t} + d];`)}
${keys(n => `      let k${n} = k[key_at[${n}] + d];`)}
${keys(n => `      let x${n} = vec4f(k0[${n}], k1[${n}], k2[${n}], k3[${n}]);`)}
${rows(
  r => `
      let y${r} = ${ofRow('q', r)};
      s${r} += y${r}.x * x0 + y${r}.y * x1 + y${r}.z * x2 + y${r}.w * x3;`,
)}
    }
    workgroupBarrier();
${rows(
  r => `
    let in${r} = (key >= vec4u(bounds${r}.x)) & (key < vec4u(bounds${r}.y));
    s${r} = select(vec4f(LOWEST), score(s${r} * p.scale), in${r});
    let most${r} = max(m${r}, subgroupMax(max(max(s${r}.x, s${r}.y), max(s${r}.z, s${r}.w))));
    let w${r} = select(vec4f(0.0), exp(s${r} - most${r}), in${r});
    let old${r} = exp(m${r} - most${r});
    m${r} = most${r};
    l${r} = l${r} * old${r} + (w${r}.x + w${r}.y) + (w${r}.z + w${r}.w);
${cols(c => `    acc${r}_${c} *= old${r};`)}`,
)}
    var table = array<vec4f, ${count}>(${Array.from({ length: count }, (_, r) => `w${r}`).join(', ')});
    for (var r = 0u; r < p.side; r++) {
${keys(n => `      weights[(4u * lane + ${n}u) * ${count}u + r] = table[r][${n}];`)}
    }
    workgroupBarrier();
    let end = min(${4 * subgroup}u, high - start);
    for (var n = 0u; n < end; n++) {
      let row = ((start + n) * p.kv_heads + kv_head) * p.width;
${panels(t => `      let weight${t} = weights[n * ${count}u + lane + ${t * subgroup}u];`)}
${cols(c => `      let v${c} = v[row + min(lane + ${c * subgroup}u, p.width - 1u)];`)}
${rows(
  r => `
      let z${r} = ${ofRow('weight', r)};
${cols(c => `      acc${r}_${c} += z${r} * v${c};`)}`,
)}
    }
  }
${rows(
  r => `
  let total${r} = subgroupAdd(l${r});
  let factor${r} = select(0.0, 1.0 / total${r}, total${r} > 0.0);`,
)}
${cols(
  c => `
  var column${c} = array<vec4f, ${count}>(${Array.from({ length: count }, (_, r) => `acc${r}_${c} * factor${r}`).join(', ')});`,
)}
  for (var r = 0u; r <= last_row - first_row; r++) {
    let row = first_row + r;
    let at = ((row / group) * p.heads + kv_head * group + row % group) * p.width + lane;
${cols(c => `    if (lane + ${c * subgroup}u < p.width) { out[at + ${c * subgroup}u] = column${c}[r]; }`)}
  }
}`,
    };
  },
);
