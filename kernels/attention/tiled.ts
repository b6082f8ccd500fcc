import { type ProgramSpec, programFamily } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { bindingsOf, firstScore, firstSum, formKey, parameters } from './commonWgsl.js';

/** A workgroup of the tiled program has SIDE x SIDE invocations. */
export const SIDE = 8;

/** A row is one query of one head; the rows of a key/value head are numbered query by query, head by head. */
export const ROWS = 32;
const KEYS = 64;

/**
 * Many queries (prefill): one workgroup of 8 x 8 invocations per 32 rows of one key/value head. For each tile of 64
 * keys, invocation (i, j) computes the scores of rows 4i .. 4i+3 with keys j, j+8, ..., exchanges the rows' maxima,
 * writes the weights to workgroup memory, and adds weights times v for the same rows and the vec4 columns j, j+8, ...
 * Each load from q, k, v or the weights serves 4 or 8 products; a tile needs two barriers. q, k and v are read in place,
 * since neighbours load the same elements from the first-level cache. `side` is SIDE.
 */
export const tiled = programFamily((headDim: number, capped: boolean, sunk: boolean): ProgramSpec => {
  const form = { capped, sunk };
  const width = headDim / 4;
  const columns = Math.ceil(width / 8);
  const rows = (line: (r: number) => string) => lines(4, line);
  const keys = (line: (n: number) => string) => lines(8, line);
  const cols = (line: (c: number) => string) => lines(columns, line);
  return {
    key: `attention tiled ${headDim}${formKey(form)}`,
    bindings: bindingsOf(form),
    wgsl: () => /* wgsl */ `${parameters(form, 'vec4f')}
var<workgroup> maxima: array<vec4f, 64>;
var<workgroup> weights: array<vec4f, ${KEYS * 8}>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = lane / 8u;
  let j = lane % 8u;
  let group = p.heads / p.kv_heads;
  let kv_head = wid.y;
  let first_row = (p.first_tile + wid.x) * ${ROWS}u;
  let end_row = min(first_row + ${ROWS}u, p.queries * group);
  // The keys that any row of the tile needs: the loop over them must be uniform in the workgroup.
  var low = 0xffffffffu;
  var high = 0u;
  for (var t = first_row / group; t <= (end_row - 1u) / group; t++) {
    let range = ranges[t];
    if (range.x < range.y) {
      low = min(low, range.x);
      high = max(high, range.y);
    }
  }
${rows(
  r => `
  let row${r} = first_row + 4u * i + ${r}u;
  let t${r} = min(row${r}, end_row - 1u) / group;
  let at${r} = (t${r} * p.heads + kv_head * group + min(row${r}, end_row - 1u) % group) * ${width}u;
  let range${r} = ranges[t${r}];`,
)}
${rows(r => cols(c => `  var acc${r}_${c} = vec4f(0.0);`))}
  var m = vec4f(${[0, 1, 2, 3].map(r => firstScore(form, `kv_head * group + min(row${r}, end_row - 1u) % group`)).join(', ')});
  var l = vec4f(${firstSum(form, 'j == 0u')});
  for (var start = low; start < high; start += ${KEYS}u) {
${keys(
  n => `
    let key${n} = start + j + ${8 * n}u;
    let k${n} = (min(key${n}, high - 1u) * p.kv_heads + kv_head) * ${width}u;
    var s${n} = vec4f(0.0);`,
)}
    for (var d = 0u; d < p.width; d++) {
${rows(r => `      let q${r} = q[at${r} + d];`)}
${keys(
  n => `
      let x${n} = k[k${n} + d];
      s${n} += vec4f(dot(q0, x${n}), dot(q1, x${n}), dot(q2, x${n}), dot(q3, x${n}));`,
)}
    }
    let starts = vec4u(range0.x, range1.x, range2.x, range3.x);
    let ends = vec4u(range0.y, range1.y, range2.y, range3.y);
    var most = m;
${keys(
  n => `
    let in${n} = (vec4u(key${n}) >= starts) & (vec4u(key${n}) < ends);
    s${n} = select(vec4f(LOWEST), score(s${n} * p.scale), in${n});
    most = max(most, s${n});`,
)}
    maxima[lane] = most;
    workgroupBarrier();
    for (var n = 0u; n < p.side; n++) { most = max(most, maxima[8u * i + n]); }
    let old = exp(m - most);
    m = most;
    l *= old;
${keys(
  n => `
    let w${n} = select(vec4f(0.0), exp(s${n} - m), in${n});
    l += w${n};
    weights[8u * (j + ${8 * n}u) + i] = w${n};`,
)}
    workgroupBarrier();
${rows(r => cols(c => `    acc${r}_${c} *= old[${r}];`))}
    let count = min(${KEYS}u, high - start);
    for (var n = 0u; n < count; n++) {
      let w = weights[8u * n + i];
      let at = ((start + n) * p.kv_heads + kv_head) * ${width}u;
${cols(
  c => `
      let v${c} = v[at + min(j + ${8 * c}u, ${width - 1}u)];
${rows(r => `      acc${r}_${c} += w[${r}] * v${c};`)}`,
)}
    }
  }
  maxima[lane] = l;
  workgroupBarrier();
  l = vec4f(0.0);
  for (var n = 0u; n < p.side; n++) { l += maxima[8u * i + n]; }
${rows(r =>
  cols(
    c => `
  if (row${r} < end_row && j + ${8 * c}u < ${width}u) {
    out[at${r} + j + ${8 * c}u] = select(vec4f(0.0), acc${r}_${c} / l[${r}], l[${r}] > 0.0);
  }`,
  ),
)}
}`,
  };
});
