import type { ProgramTarget } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { chunkEnd, fastParts, head, type OuterProductsLayout, tileOrigin } from './commonWgsl.js';
import { CHUNK_ROWS } from './outlierRows.js';

/** Rows and columns of a workgroup's tile. */
export const TILED_TILE = 64;
/** Rows of x and y in workgroup memory at a time; divides CHUNK_ROWS. */
const DEPTH = 8;
const LINE = TILED_TILE / 4;

/**
 * Fast sum for GPUs: 256 threads, each with 4 x 4 elements in registers: the chunk's exact sums and rests, and out
 * itself, which each dispatch reads and writes once. Workgroup memory holds 8 rows of x and y at a time, k-major as they
 * are stored and already split into parts. Meanwhile the threads fetch the next 8 rows into registers, one vec4 per
 * thread: x by the first half of the threads, y by the second.
 *
 * Tile: 64 x 64. Needs 8 KiB of workgroup memory.
 */
export function tiledWgsl(layout: OuterProductsLayout, target: ProgramTarget): string {
  return `${head(layout, target)}
${fastParts(layout)}
var<workgroup> xHigh: array<vec4f, ${DEPTH * LINE}>;
var<workgroup> xRest: array<vec4f, ${DEPTH * LINE}>;
var<workgroup> yHigh: array<vec4f, ${DEPTH * LINE}>;
var<workgroup> yRest: array<vec4f, ${DEPTH * LINE}>;
@compute @workgroup_size(256) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  ${tileOrigin(TILED_TILE, TILED_TILE)}
  let isX = thread < ${DEPTH * LINE}u;
  let slot = thread % ${DEPTH * LINE}u;
  let step = slot / ${LINE}u;
  let line = select(column0, p.firstRow + row0, isX) + (slot % ${LINE}u) * 4u;
  let tx = thread % ${LINE}u;
  let ty = thread / ${LINE}u;
  let column = column0 + tx * 4u;
  ${lines(4, r => `var total${r} = loadRow(row0 + ty * 4u + ${r}u, column);`)}
  for (var start = 0u; start < p.rows; start += ${CHUNK_ROWS}u) {
    let end = ${chunkEnd};
    let chunk = start / ${CHUNK_ROWS}u;
    var q: vec4f;
    if (isX) { q = gridX(chunk, line); } else { q = gridY(chunk, line); }
    ${lines(4, r => `var exact${r} = vec4f(); var rest${r} = vec4f();`)}
    var next: vec4f;
    var weight: f32;
    // Each round fetches 8 rows into registers, multiplies the previous 8 and then overwrites them.
    for (var k0 = start; k0 < end + ${DEPTH}u; k0 += ${DEPTH}u) {
      if (k0 < end) {
        // Past the end the last row is read again, with weight 0.
        let k = min(k0 + step, end - 1u);
        if (isX) {
          next = x(k, line);
          weight = select(0.0, weights[k], k0 + step < end);
        } else {
          next = y(k, line);
        }
      }
      if (k0 > start) {
        for (var k = 0u; k < ${DEPTH}u; k++) {
          let xh = xHigh[k * ${LINE}u + ty];
          let xm = xRest[k * ${LINE}u + ty];
          let yh = yHigh[k * ${LINE}u + tx];
          let ym = yRest[k * ${LINE}u + tx];
          let vy = yh + ym;
          ${lines(4, r => `exact${r} += xh[${r}] * yh; rest${r} += xh[${r}] * ym + xm[${r}] * vy;`)}
        }
      }
      workgroupBarrier();
      if (isX) {
        let v = splitX(weight, next, q);
        xHigh[slot] = v.hi;
        xRest[slot] = v.lo;
      } else {
        let v = splitY(next, q);
        yHigh[slot] = v.hi;
        yRest[slot] = v.lo;
      }
      workgroupBarrier();
    }
    ${lines(4, r => `total${r} = addPair4(total${r}, twoSum4(exact${r}, rest${r}));`)}
  }
  ${lines(4, r => `storeRow(row0 + ty * 4u + ${r}u, column, total${r});`)}
}`;
}
