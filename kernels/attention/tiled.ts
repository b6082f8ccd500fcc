import { type ProgramSpec, programFamily } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { bindingsOf, firstScore, firstSum, formKey, headLine, keysOfTile, parameters } from './commonWgsl.js';

/** A workgroup of the tiled program has SIDE x SIDE invocations. */
export const SIDE = 16;

/** Rows of a workgroup: one query of one head each. */
export const ROWS = 64;
export const KEYS = 64;
/** vec4 of q, k or v that are staged at a time, one by each invocation. */
const STAGED = SIDE * SIDE;
const DEPTH = STAGED / KEYS;
/** Keys whose weights fit the workgroup memory of every device. */
const HALF = KEYS / 2;

/**
 * Many queries (prefill): one workgroup of 16 x 16 invocations per 64 rows of one key/value head. For each tile of 64
 * keys, invocation (i, j) computes the scores of rows 4i .. 4i+3 with keys j, j+16, ..., exchanges the rows' maxima,
 * writes the weights to workgroup memory, half of the keys at a time, and adds weights times v for the same rows and the
 * vec4 columns j, j+16, ... All operands are staged 256 vec4 at a time, while the next ones are on their way, so that k and v
 * are read once for all rows of the tile. `side` is SIDE. Needs 16 KiB of workgroup memory.
 */
export const tiled = programFamily((headDim: number, capped: boolean, sunk: boolean): ProgramSpec => {
  const form = { capped, sunk };
  const width = headDim / 4;
  const columns = Math.ceil(width / SIDE);
  // Keys of v that are staged at a time.
  const chunk = Math.min(HALF, Math.floor(STAGED / width));
  const rows = (line: (r: number) => string) => lines(4, line);
  const keys = (line: (n: number) => string) => lines(4, line);
  const cols = (line: (c: number) => string) => lines(columns, line);
  return {
    key: `attention tiled ${headDim}${formKey(form)}`,
    bindings: bindingsOf(form),
    wgsl: () => /* wgsl */ `${parameters(form, 'vec4f')}
${headLine}
var<workgroup> queries: array<vec4f, ${STAGED}>;
var<workgroup> staged: array<vec4f, ${STAGED}>;
/** Weights of half of the keys; before, the rows' maxima. */
var<workgroup> weights: array<vec4f, ${(HALF * ROWS) / 4}>;
@compute @workgroup_size(${SIDE * SIDE}) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32,
) {
  ${keysOfTile(ROWS)}
  let i = lane / ${SIDE}u;
  let j = lane % ${SIDE}u;
  // Invocation (line, part) stages a vec4 of a row and of a key; the bits of part permute them among the banks.
  let line = lane / ${DEPTH}u;
  let part = lane % ${DEPTH}u;
  let query_at = head_line(min(first_row + line, end_row - 1u), group, kv_head) * ${width}u;
${rows(
  r => `
  let row${r} = first_row + 4u * i + ${r}u;
  let at${r} = head_line(min(row${r}, end_row - 1u), group, kv_head) * ${width}u;
  let range${r} = ranges[min(row${r}, end_row - 1u) / group];`,
)}
  let starts = vec4u(range0.x, range1.x, range2.x, range3.x);
  let ends = vec4u(range0.y, range1.y, range2.y, range3.y);
${rows(r => cols(c => `  var acc${r}_${c} = vec4f(0.0);`))}
  var m = vec4f(${[0, 1, 2, 3].map(r => firstScore(form, `kv_head * group + min(row${r}, end_row - 1u) % group`)).join(', ')});
  var l = vec4f(${firstSum(form, 'j == 0u')});
  for (var start = low; start < high; start += ${KEYS}u) {
${keys(n => `    var s${n} = vec4f(0.0);`)}
    let key_at = (min(start + line, high - 1u) * p.kv_heads + kv_head) * ${width}u;
    var next = k[key_at + min(part, ${width - 1}u)];
    var next_query = q[query_at + min(part, ${width - 1}u)];
    for (var d = 0u; d < p.width; d += ${DEPTH}u) {
      workgroupBarrier();
      staged[part * ${KEYS}u + (line ^ (2u * part))] = next;
      queries[part * ${ROWS}u + (line ^ (2u * part))] = next_query;
      workgroupBarrier();
      let ahead = min(d + ${DEPTH}u + part, ${width - 1}u);
      next = k[key_at + ahead];
      next_query = q[query_at + ahead];
      for (var e = 0u; e < ${width % DEPTH ? `min(${DEPTH}u, ${width}u - d)` : `${DEPTH}u`}; e++) {
${rows(r => `        let q${r} = queries[e * ${ROWS}u + ((4u * i + ${r}u) ^ (2u * e))];`)}
${keys(
  n => `
        let x${n} = staged[e * ${KEYS}u + ((j + ${SIDE * n}u) ^ (2u * e))];
        s${n} += vec4f(dot(q0, x${n}), dot(q1, x${n}), dot(q2, x${n}), dot(q3, x${n}));`,
)}
      }
    }
    var most = m;
${keys(
  n => `
    let key${n} = vec4u(start + j + ${SIDE * n}u);
    let in${n} = (key${n} >= starts) & (key${n} < ends);
    s${n} = select(vec4f(LOWEST), score(s${n} * p.scale), in${n});
    most = max(most, s${n});`,
)}
    workgroupBarrier();
    weights[lane] = most;
    workgroupBarrier();
    for (var n = 0u; n < p.side; n++) { most = max(most, weights[${SIDE}u * i + n]); }
    let old = exp(m - most);
    m = most;
    l *= old;
${keys(
  n => `
    s${n} = select(vec4f(0.0), exp(s${n} - m), in${n});
    l += s${n};`,
)}
${rows(r => cols(c => `    acc${r}_${c} *= old[${r}];`))}
    for (var half = 0u; half < 2u && start + half * ${HALF}u < high; half++) {
      let first = start + half * ${HALF}u;
      let count = min(${HALF}u, high - first);
      workgroupBarrier();
      weights[j * ${ROWS / 4}u + i] = select(s0, s2, half == 1u);
      weights[(j + ${SIDE}u) * ${ROWS / 4}u + i] = select(s1, s3, half == 1u);
      let value = lane / ${width}u;
      next = v[((min(first + value, high - 1u)) * p.kv_heads + kv_head) * ${width}u + lane % ${width}u];
      for (var done = 0u; done < count; done += ${chunk}u) {
        workgroupBarrier();
        staged[lane] = next;
        workgroupBarrier();
        next = v[(min(first + done + ${chunk}u + value, high - 1u) * p.kv_heads + kv_head) * ${width}u + lane % ${width}u];
        for (var n = 0u; n < min(${chunk}u, count - done); n++) {
          let w = weights[(done + n) * ${ROWS / 4}u + i];
${cols(
  c => `
          let v${c} = staged[n * ${width}u + min(j + ${SIDE * c}u, ${width - 1}u)];
${rows(r => `          acc${r}_${c} += w[${r}] * v${c};`)}`,
)}
        }
      }
    }
  }
  workgroupBarrier();
  weights[lane] = l;
  workgroupBarrier();
  l = vec4f(0.0);
  for (var n = 0u; n < p.side; n++) { l += weights[${SIDE}u * i + n]; }
${rows(r =>
  cols(
    c => `
  if (row${r} < end_row && j + ${SIDE * c}u < ${width}u) {
    out[at${r} + j + ${SIDE * c}u] = select(vec4f(0.0), acc${r}_${c} / l[${r}], l[${r}] > 0.0);
  }`,
  ),
)}
}`,
  };
});
