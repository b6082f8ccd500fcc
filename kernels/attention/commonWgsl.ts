import type { Access } from '../../engine/index.js';
import { softcapWgsl } from '../shared/mathWgsl.js';

/** What all attention programs are generated from: whether scores are capped, and whether heads have sinks. */
export interface AttentionForm {
  readonly capped: boolean;
  readonly sunk: boolean;
}

/**
 * WGSL of the parameters, the bindings and `score(s) -> type`, which turns scaled products into the input of the softmax;
 * with `capped` it soft-caps them to `cap`. `type` is the vector in which a program keeps scores. `width` is headDim / 4
 * and `side` a size that each program defines; both are parameters so that the compiler does not know them: software
 * drivers unroll loops of a known length, and every load in them takes milliseconds to compile. `first_tile` is the tile of
 * rows of workgroup 0, if the rows are divided among dispatches.
 */
export const parameters = ({ capped, sunk }: AttentionForm, type: string): string => /* wgsl */ `
struct Params {
  queries: u32, heads: u32, kv_heads: u32, width: u32, side: u32, scale: f32, first_tile: u32, cap: f32
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
@group(0) @binding(4) var<storage, read> ranges: array<vec2u>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4f>;
${sunk ? '@group(0) @binding(6) var<storage, read> sinks: array<f32>;' : ''}
// exp(LOWEST - x) is 0 and never meets infinity, which compilers may assume not to occur.
const LOWEST = -1.0e38;
${capped ? softcapWgsl(type) : ''}
fn score(s: ${type}) -> ${type} { return ${capped ? 'softcap(s, p.cap)' : 's'}; }`;

/** Access of the bindings of `parameters`. */
export const bindingsOf = ({ sunk }: AttentionForm): Access[] => [
  ...(['read', 'read', 'read', 'read', 'write'] as const),
  ...(sunk ? (['read'] as const) : []),
];

/** The part of a program's key that names its form. */
export const formKey = ({ capped, sunk }: AttentionForm): string =>
  `${capped ? ', capped' : ''}${sunk ? ', sinks' : ''}`;

/** WGSL of the score of a head's sink, with which the maximum of its scores begins; its weight 1 is in the sum of one lane. */
export const firstScore = ({ sunk }: AttentionForm, head: string): string =>
  sunk ? `sinks[${head}]` : 'LOWEST';
export const firstSum = ({ sunk }: AttentionForm, isOne: string): string =>
  sunk ? `select(0.0, 1.0, ${isOne})` : '0.0';

/**
 * WGSL at the start of `main` in the programs for many queries, those of the backward pass too: workgroup (x, y) takes `rows` rows of key/value head y,
 * first_row to end_row. A row is one query of one head; the rows of a key/value head are numbered query by query, head by
 * head. `low` to `high` are the keys that any of them needs: the loop over them must be uniform in the workgroup.
 */
export const keysOfTile = (rows: number): string => /* wgsl */ `
  let group = p.heads / p.kv_heads;
  let kv_head = wid.y;
  let first_row = (p.first_tile + wid.x) * ${rows}u;
  let end_row = min(first_row + ${rows}u, p.queries * group);
  var low = 0xffffffffu;
  var high = 0u;
  for (var t = first_row / group; t <= (end_row - 1u) / group; t++) {
    let range = ranges[t];
    if (range.x < range.y) {
      low = min(low, range.x);
      high = max(high, range.y);
    }
  }`;

/** WGSL function: the number of a row's query and head among all heads of all queries. */
export const headLine = /* wgsl */ `
fn head_line(row: u32, group: u32, kv_head: u32) -> u32 {
  return row / group * p.heads + kv_head * group + row % group;
}`;

/**
 * WGSL at the start of `main` in the programs for few queries: workgroup (t, c, z) takes chunk c of the keys of query t,
 * `low` to `high`, for `group` heads from `first_head` on. Chunks are multiples of `tile` keys. `side` is the number of
 * workgroups that share a key/value head; the heads that share one are neighbours.
 */
export const chunkOfKeys = (group: number, tile: number): string => /* wgsl */ `
  let t = wid.x;
  let kv_head = wid.z / p.side;
  let first_head = t * p.heads + wid.z * ${group}u;
  let range = ranges[t];
  let length = max(range.x, range.y) - range.x;
  let tiles = chunks.y * ${tile}u;
  let chunk = (length + tiles - 1u) / tiles * ${tile}u;
  let low = range.x + min(length, wid.y * chunk);
  let high = range.x + min(length, (wid.y + 1u) * chunk);`;

/** The same for head g of a workgroup that has a chunk of the keys: the sink belongs to the first. */
export const inFirstChunk = (form: AttentionForm, g: number): string =>
  form.sunk ? `select(LOWEST, ${firstScore(form, `first_head % p.heads + ${g}u`)}, wid.y == 0u)` : 'LOWEST';

/**
 * WGSL that writes vec4 column `column` of head first_head + g: the result or, with `partial`, the undivided sum for
 * combine.ts. A partial chunk has one more column: (maximum of the scores, sum of weights), written by `storeTotals`.
 */
export function storeColumn(partial: boolean, g: number, column: string, sum: string, total: string): string {
  return partial
    ? `out[((first_head + ${g}u) * chunks.y + wid.y) * (p.width + 1u) + ${column}] = ${sum};`
    : `out[(first_head + ${g}u) * p.width + ${column}] = select(vec4f(0.0), ${sum} / ${total}, ${total} > 0.0);`;
}

/** WGSL with which lane 0 writes the additional column of a partial chunk; empty without `partial`. */
export function storeTotals(partial: boolean, g: number, most: string, total: string): string {
  return partial
    ? `if (lane == 0u) { ${storeColumn(true, g, 'p.width', `vec4f(${most}, ${total}, 0.0, 0.0)`, '')} }`
    : '';
}
