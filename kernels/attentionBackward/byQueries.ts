import { type ProgramSpec, programFamily } from '../../engine/index.js';
import { keysOfTile } from '../attention/commonWgsl.js';
import { lines } from '../shared/wgsl.js';
import { parameters } from './commonWgsl.js';

/** A row is one query of one head; the rows of a key/value head are numbered query by query, head by head. */
export const ROWS_OF_TILE = 32;
const KEYS = 32;

/**
 * dq, and for every row the logarithm of its sum of exponentials and D: one workgroup of 8 x 8 invocations per 32 rows of
 * one key/value head. For each tile of 32 keys, invocation (i, j) computes the scores of rows 4i .. 4i+3 with keys j,
 * j+8, ... twice. The first pass sums exponentials per lane and joins the sums once at the end. The second pass also
 * computes g v^T and writes ds to workgroup memory; from there it adds ds times k to the vec4 columns j, j+8, ... of dq.
 */
export const byQueries = programFamily((headDim: number, capped: boolean): ProgramSpec => {
  const width = headDim / 4;
  const columns = Math.ceil(width / 8);
  const rows = (line: (r: number) => string) => lines(4, line);
  const keys = (line: (n: number) => string) => lines(4, line);
  const cols = (line: (c: number) => string) => lines(columns, line);
  /** WGSL of `name`0 .. 3: this invocation's rows of `left` times rows of `right` at the tile's keys. */
  const products = (name: string, left: string, right: string) => `
${keys(n => `    var ${name}${n} = vec4f(0.0);`)}
    for (var d = 0u; d < p.width; d++) {
${rows(r => `      let a${r} = ${left}[at${r} + d];`)}
${keys(
  n => `
      let x${n} = ${right}[k${n} + d];
      ${name}${n} += vec4f(dot(a0, x${n}), dot(a1, x${n}), dot(a2, x${n}), dot(a3, x${n}));`,
)}
    }`;
  const scores = `
${keys(
  n => `
    let key${n} = start + j + ${8 * n}u;
    let k${n} = (min(key${n}, high - 1u) * p.kv_heads + kv_head) * ${width}u;
    let in${n} = (vec4u(key${n}) >= starts) & (vec4u(key${n}) < ends);`,
)}
${products('s', 'q', 'k')}`;
  return {
    key: `attention backward by queries ${headDim}${capped ? ', capped' : ''}`,
    bindings: ['read', 'read', 'read', 'read', 'read', 'read', 'write', 'write'],
    wgsl: () => /* wgsl */ `${parameters(capped)}
@group(0) @binding(5) var<storage, read> attended: array<vec4f>;
@group(0) @binding(6) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> dq: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> statistics: array<vec2f>;
const LOWEST = -1.0e38;
var<workgroup> maxima: array<vec4f, 64>;
var<workgroup> sums: array<vec4f, 64>;
var<workgroup> weights: array<vec4f, ${KEYS * 8}>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = lane / 8u;
  let j = lane % 8u;
${keysOfTile(ROWS_OF_TILE)}
${rows(
  r => `
  let row${r} = first_row + 4u * i + ${r}u;
  let t${r} = min(row${r}, end_row - 1u) / group;
  let head${r} = t${r} * p.heads + kv_head * group + min(row${r}, end_row - 1u) % group;
  let at${r} = head${r} * ${width}u;
  let range${r} = ranges[t${r}];`,
)}
  let starts = vec4u(range0.x, range1.x, range2.x, range3.x);
  let ends = vec4u(range0.y, range1.y, range2.y, range3.y);
  var m = vec4f(LOWEST);
  var l = vec4f(0.0);
  for (var start = low; start < high; start += ${KEYS}u) {
    ${scores}
    var most = m;
${keys(
  n => `
    s${n} = select(vec4f(LOWEST), score(s${n}), in${n});
    most = max(most, s${n});`,
)}
    l *= exp(m - most);
    m = most;
${keys(n => `    l += select(vec4f(0.0), exp(s${n} - m), in${n});`)}
  }
  maxima[lane] = m;
  sums[lane] = l;
  workgroupBarrier();
  for (var n = 0u; n < p.side; n++) { m = max(m, maxima[8u * i + n]); }
  l = vec4f(0.0);
  for (var n = 0u; n < p.side; n++) { l += sums[8u * i + n] * exp(maxima[8u * i + n] - m); }
  let total = select(vec4f(NEVER), m + log(max(l, vec4f(1.0e-30))), l > vec4f(0.0));
  var product = vec4f(0.0);
  for (var d = 0u; d < p.width; d++) {
    product += vec4f(${[0, 1, 2, 3].map(r => `dot(gradient[at${r} + d], attended[at${r} + d])`).join(', ')});
  }
${rows(r => `  if (j == ${r}u && row${r} < end_row) { statistics[head${r}] = vec2f(total[${r}], product[${r}]); }`)}
${rows(r => cols(c => `  var acc${r}_${c} = vec4f(0.0);`))}
  for (var start = low; start < high; start += ${KEYS}u) {
    ${scores}
    ${products('g', 'gradient', 'v')}
    workgroupBarrier();
${keys(
  n => `    weights[8u * (j + ${8 * n}u) + i] =
      weight(score(s${n}), total, in${n}) * (g${n} - product) * score_slope(score(s${n}));`,
)}
    workgroupBarrier();
    let count = min(${KEYS}u, high - start);
    for (var n = 0u; n < count; n++) {
      let w = weights[8u * n + i];
      let at = ((start + n) * p.kv_heads + kv_head) * ${width}u;
${cols(
  c => `
      let x${c} = k[at + min(j + ${8 * c}u, ${width - 1}u)];
${rows(r => `      acc${r}_${c} += w[${r}] * x${c};`)}`,
)}
    }
  }
${rows(r =>
  cols(
    c =>
      `  if (row${r} < end_row && j + ${8 * c}u < ${width}u) { dq[at${r} + j + ${8 * c}u] = acc${r}_${c}; }`,
  ),
)}
}`,
  };
});
