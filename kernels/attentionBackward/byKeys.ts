import { type ProgramSpec, programFamily } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { parameters } from './commonWgsl.js';

/** Keys per workgroup. */
export const KEYS_OF_TILE = 32;
const ROWS = 32;

/**
 * dk and dv: one workgroup of 8 x 8 invocations per 32 keys of one key/value head. It finds the first and the last query
 * that sees any of these keys and visits the rows between, 32 at a time (a row is one query of one head, as in
 * byQueries.ts). Invocation (i, j) computes the weights of keys 4i .. 4i+3 for rows j, j+8, ... and writes them to workgroup
 * memory; from there it adds them, times the gradient of the output, to the vec4 columns j, j+8, ... of dv. In the same
 * way it computes ds and adds it, times q, to dk.
 */
export const byKeys = programFamily((headDim: number, capped: boolean): ProgramSpec => {
  const width = headDim / 4;
  const columns = Math.ceil(width / 8);
  const keys = (line: (r: number) => string) => lines(4, line);
  const rows = (line: (n: number) => string) => lines(4, line);
  const cols = (line: (c: number) => string) => lines(columns, line);
  /** WGSL of `name`0 .. 3: rows of `right` at the tile's rows times rows of `left` at this invocation's keys. */
  const products = (name: string, left: string, right: string) => `
${rows(n => `    var ${name}${n} = vec4f(0.0);`)}
    for (var d = 0u; d < p.width; d++) {
${keys(r => `      let a${r} = ${left}[at${r} + d];`)}
${rows(
  n => `
      let x${n} = ${right}[row${n} * ${width}u + d];
      ${name}${n} += vec4f(dot(a0, x${n}), dot(a1, x${n}), dot(a2, x${n}), dot(a3, x${n}));`,
)}
    }`;
  /** WGSL that adds the tile's weights times rows of `source` to the columns of `name`. */
  const addWeighted = (name: string, source: string) => `
    workgroupBarrier();
    for (var n = 0u; n < count; n++) {
      let w = weights[8u * n + i];
      let at = head_of(start + n, kv_head) * ${width}u;
${cols(
  c => `
      let x${c} = ${source}[at + min(j + ${8 * c}u, ${width - 1}u)];
${keys(r => `      ${name}${r}_${c} += w[${r}] * x${c};`)}`,
)}
    }
    workgroupBarrier();`;
  return {
    key: `attention backward by keys ${headDim}${capped ? ', capped' : ''}`,
    bindings: ['read', 'read', 'read', 'read', 'read', 'read', 'write', 'write'],
    wgsl: () => /* wgsl */ `${parameters(capped)}
@group(0) @binding(5) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(6) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(7) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> dv: array<vec4f>;
var<workgroup> spans: array<vec2u, 64>;
var<workgroup> span: vec2u;
var<workgroup> weights: array<vec4f, ${ROWS * 8}>;
// Index of a row of this key/value head among the heads of all queries.
fn head_of(row: u32, kv_head: u32) -> u32 {
  let group = p.heads / p.kv_heads;
  return row / group * p.heads + kv_head * group + row % group;
}
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = lane / 8u;
  let j = lane % 8u;
  let group = p.heads / p.kv_heads;
  let kv_head = wid.y;
  let first_key = (p.first_tile + wid.x) * ${KEYS_OF_TILE}u;
  let end_key = min(first_key + ${KEYS_OF_TILE}u, p.keys);
  var mine = vec2u(0xffffffffu, 0u);
  for (var t = lane; t < p.queries; t += 64u) {
    let range = ranges[t];
    if (max(range.x, first_key) < min(range.y, end_key)) { mine = vec2u(min(mine.x, t), t + 1u); }
  }
  spans[lane] = mine;
  workgroupBarrier();
  if (lane == 0u) {
    for (var n = 1u; n < p.side * p.side; n++) {
      mine = vec2u(min(mine.x, spans[n].x), max(mine.y, spans[n].y));
    }
    span = mine;
  }
  // The loop over the rows must be uniform in the workgroup.
  let queries = workgroupUniformLoad(&span);
  let end_row = queries.y * group;
${keys(
  r => `
  let key${r} = first_key + 4u * i + ${r}u;
  let at${r} = (min(key${r}, end_key - 1u) * p.kv_heads + kv_head) * ${width}u;`,
)}
  let key = vec4u(key0, key1, key2, key3);
${keys(r => cols(c => `  var dk${r}_${c} = vec4f(0.0);\n  var dv${r}_${c} = vec4f(0.0);`))}
  for (var start = min(queries.x, queries.y) * group; start < end_row; start += ${ROWS}u) {
    let count = min(${ROWS}u, end_row - start);
${rows(
  n => `
    let query${n} = min(start + j + ${8 * n}u, end_row - 1u);
    let row${n} = head_of(query${n}, kv_head);
    let statistics${n} = statistics[row${n}];
    let range${n} = ranges[query${n} / group];
    let in${n} = (key >= vec4u(range${n}.x)) & (key < vec4u(range${n}.y));`,
)}
    ${products('s', 'k', 'q')}
${rows(
  n => `
    let score${n} = score(s${n});
    s${n} = weight(score${n}, vec4f(statistics${n}.x), in${n});
    weights[8u * (j + ${8 * n}u) + i] = s${n};`,
)}
    ${addWeighted('dv', 'gradient')}
    ${products('g', 'v', 'gradient')}
${rows(n => `    weights[8u * (j + ${8 * n}u) + i] = s${n} * (g${n} - statistics${n}.y) * score_slope(score${n});`)}
    ${addWeighted('dk', 'q')}
  }
${keys(r =>
  cols(
    c => `
  if (key${r} < end_key && j + ${8 * c}u < ${width}u) {
    dk[at${r} + j + ${8 * c}u] = dk${r}_${c};
    dv[at${r} + j + ${8 * c}u] = dv${r}_${c};
  }`,
  ),
)}
}`,
  };
});
