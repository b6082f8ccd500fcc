import type { ProgramTarget } from '../../engine/index.js';
import { exactArithmetic, RUNTIME_ZERO } from '../shared/doubleSingle.js';
import { CHUNK_ROWS } from './outlierRows.js';

/** Everything that the WGSL of a variant is generated from. */
export interface OuterProductsLayout {
  weighted: boolean;
  /** m and n are multiples of 4, so that rows can be read and written as vec4. */
  whole: boolean;
}

/** The part of a program's key that names its layout. */
export const layoutKey = ({ weighted, whole }: OuterProductsLayout): string =>
  `${weighted ? ' weighted' : ''}${whole ? '' : ' odd'}`;

/** WGSL function `name(row, column) -> vec4f`: four neighbouring elements, undefined beyond the last column. */
const load4 = (name: string, binding: number, columns: string, whole: boolean): string =>
  whole
    ? `@group(0) @binding(${binding}) var<storage, read> ${name}_: array<vec4f>;
fn ${name}(row: u32, column: u32) -> vec4f { return ${name}_[(row * ${columns} + min(column, ${columns} - 4u)) >> 2u]; }`
    : `@group(0) @binding(${binding}) var<storage, read> ${name}_: array<f32>;
fn ${name}(row: u32, column: u32) -> vec4f {
  let c = min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(${columns} - 1u)) + row * ${columns};
  return vec4f(${name}_[c.x], ${name}_[c.y], ${name}_[c.z], ${name}_[c.w]);
}`;

/**
 * WGSL of the parameters, out and the operands x and y. out is a window of rows: `loadRow(row, column)` and
 * `storeRow(row, column, v)` count rows from the window's first, read or write four neighbouring columns and skip those
 * that do not exist. Row r of the window belongs to column p.firstRow + r of x.
 */
export const head = ({ whole }: OuterProductsLayout, { exact }: ProgramTarget): string => /* wgsl */ `
struct Params {
  rows: u32, m: u32, n: u32, symmetric: u32, firstRow: u32, windowRows: u32, firstToken: u32, ${RUNTIME_ZERO}
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> outHi: array<${whole ? 'vec4f' : 'f32'}>;
@group(0) @binding(2) var<storage, read_write> outLo: array<${whole ? 'vec4f' : 'f32'}>;
${load4('x', 3, 'p.m', whole)}
${load4('y', 4, 'p.n', whole)}
${exactArithmetic('vec4f', exact)}
${
  whole
    ? `fn loadRow(row: u32, column: u32) -> Pair4 {
  if (row >= p.windowRows || column >= p.n) { return Pair4(); }
  let i = (row * p.n + column) >> 2u;
  return Pair4(outHi[i], outLo[i]);
}
fn storeRow(row: u32, column: u32, v: Pair4) {
  if (row >= p.windowRows || column >= p.n) { return; }
  let i = (row * p.n + column) >> 2u;
  outHi[i] = v.hi;
  outLo[i] = v.lo;
}`
    : `fn loadRow(row: u32, column: u32) -> Pair4 {
  if (row >= p.windowRows) { return Pair4(); }
  let i = min(vec4u(column) + vec4u(0u, 1u, 2u, 3u), vec4u(p.n - 1u)) + row * p.n;
  return Pair4(
    vec4f(outHi[i.x], outHi[i.y], outHi[i.z], outHi[i.w]), vec4f(outLo[i.x], outLo[i.y], outLo[i.z], outLo[i.w]));
}
fn storeRow(row: u32, column: u32, v: Pair4) {
  if (row >= p.windowRows) { return; }
  var pair = v;
  for (var e = 0u; e < min(4u, p.n - min(column, p.n)); e++) {
    outHi[row * p.n + column + e] = pair.hi[e];
    outLo[row * p.n + column + e] = pair.lo[e];
  }
}`
}`;

/** WGSL of the fast sum: bindings of the row weights and grids, and functions that split values on the grids. */
export const fastParts = ({ weighted, whole }: OuterProductsLayout): string => /* wgsl */ `
@group(0) @binding(5) var<storage, read> weights: array<f32>;
${load4('gridX', 6, 'p.m', whole)}
${load4('gridY', 7, 'p.n', whole)}
/** Splits values into multiples of the grid q and rests. */
fn splitX(w: f32, v: vec4f, q: vec4f) -> Pair4 {
  // A weighted value takes both halves from one product: if w * v were fused into z - h, it would hold the low half too.
  let z = ${weighted ? 'twoProduct4(vec4f(w), v)' : 'Pair4(w * v, vec4f())'};
  let h = round(z.hi * (1.0 / q)) * q;
  return Pair4(h, (z.hi - h) + z.lo);
}
fn splitY(v: vec4f, q: vec4f) -> Pair4 {
  let h = round(v * (1.0 / q)) * q;
  return Pair4(h, v - h);
}`;

/** WGSL at the start of `main`: row0 (in the window) and column0 of the workgroup's tile; skips tiles above the diagonal. */
export const tileOrigin = (rows: number, columns: number): string => `
  let row0 = wid.y * ${rows}u;
  let column0 = wid.x * ${columns}u;
  if (p.symmetric != 0u && column0 >= p.firstRow + row0 + ${rows}u) { return; }`;

/** WGSL of the end of the chunk of rows that begins at `start`. */
export const chunkEnd = `min(p.rows, start + ${CHUNK_ROWS}u)`;
