import type { ProgramTarget } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { blockPosition, fetchBlock } from './blocks.js';
import { eachFactor, head, type MatmulLayout, tileOrigin } from './commonWgsl.js';

/** Rows and columns of a workgroup's tile. */
interface TileShape {
  rows: 64 | 128;
  columns: 64 | 128;
}

/** How many k are staged at a time: the power of two that fits 16 KiB of workgroup memory with both operands. */
const depthOf = ({ rows, columns }: TileShape): 16 | 32 => (rows + columns === 128 ? 32 : 16);

/** A product split along k has ranges that are multiples of this. */
export const RANGE_STEP = 32;

/**
 * Portable matmul for GPUs: 256 threads, each with (rows/16) x (columns/16) sums in registers. Workgroup memory holds 16 or
 * 32 k of both operands, k-major; meanwhile the threads fetch the next ones into registers.
 *
 * Thread (x, y) owns columns 4x..4x+3 and rows 4y..4y+3 of every 64 x 64 part of the tile, and stages a block of 4 x 4,
 * transposed in registers if k is contiguous in memory. The bits of k permute the vec4 of a line (see `swizzle`), so that
 * eight neighbouring threads always access eight different bank groups, without padding.
 * A gated product has tiles half as wide: the left half of its sums belongs to B, the right half to `up`.
 * Needs 12 or 16 KiB of workgroup memory; 16 is the least that WebGPU grants.
 */
export function tiledWgsl(layout: MatmulLayout, tile: TileShape, target: ProgramTarget): string {
  const { rows, columns } = tile;
  const depth = depthOf(tile);
  const [lineA, lineB] = [rows / 4, columns / 4];
  const blocksA = lineA * (depth / 4);
  const blocksB = lineB * (depth / 4);
  const [panels, sides] = [rows / 64, columns / 64];
  const { gated } = layout;
  const outColumns = tiledColumns(tile, gated !== undefined);
  // Swizzles a line of vec4: threads that differ by 4 in k and by 1 in the line write to different banks.
  const swizzle = `k4 * ${32 / depth}u`;
  const fetchRight = gated
    ? `if (block_b.x < 16u) { next = fetch_b(column0 + block_b.x * 4u, k0 + block_b.y * 4u); }
      else { next = fetch_up(column0 + block_b.x * 4u - 64u, k0 + block_b.y * 4u); }`
    : 'next = fetch_b(column0 + block_b.x * 4u, k0 + block_b.y * 4u);';
  const stage = (name: string, line: number) => `
      let k4 = block_${name}.y;
      let at = k4 * ${4 * line}u + (block_${name}.x ^ (${swizzle}));
      ${lines(4, kk => `tile_${name}[at + ${kk * line}u] = next[${kk}];`)}`;
  const oneK = (kk: string) => `{
        ${lines(sides, c => `let vb${c} = tile_b[at_b + ${kk} * ${lineB}u + ${c * 16}u];`)}
        ${lines(
          panels,
          s => `let va${s} = tile_a[at_a + ${kk} * ${lineA}u + ${s * 16}u];
        ${lines(sides, c => lines(4, i => `acc${s}_${c}_${i} = acc${s}_${c}_${i} + va${s}[${i}] * vb${c};`))}`,
        )}
        }`;
  // Some compilers do not unroll by themselves. Where registers are few, what is loaded ahead would spill.
  const fourK = target.fewRegisters
    ? `for (var kk = 0u; kk < 4u; kk++) ${oneK('kk')}`
    : lines(4, kk => oneK(`${kk}u`));
  const row = 'row0 + (i >> 2u) * 64u + y * 4u + (i & 3u)';
  const store = gated
    ? `store(${row}, column0 + x * 4u, sums0[i], sums1[i]);`
    : lines(sides, c => `store(${row}, column0 + ${c * 64}u + x * 4u, sums${c}[i]);`);
  return `${head(layout)}
${fetchBlock('a', layout.a, 'p.m', 'lines')}
${eachFactor(layout, (name, operand) => fetchBlock(name, operand, 'p.n', 'lines'))}
var<workgroup> tile_a: array<vec4f, ${depth * lineA}>;
var<workgroup> tile_b: array<vec4f, ${depth * lineB}>;
@compute @workgroup_size(256) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  ${tileOrigin(layout, rows, outColumns)}
  let is_a = thread < ${blocksA}u;
  let is_b = !is_a && thread < ${blocksA + blocksB}u;
  let block = select(thread - ${blocksA}u, thread, is_a);
  let block_a = ${blockPosition('block', layout.a, rows, depth)};
  let block_b = ${blockPosition('block', layout.b, columns, depth)};
  let x = thread % 16u;
  let y = thread / 16u;
  ${lines(panels, s => lines(sides, c => lines(4, i => `var acc${s}_${c}_${i} = vec4f();`)))}
  var next: mat4x4f;
  // Each round fetches ${depth} k into registers, multiplies the previous ones and then overwrites them.
  for (var k0 = k_begin; k0 < k_end + ${depth}u; k0 += ${depth}u) {
    if (k0 < k_end) {
      if (is_a) { next = fetch_a(row0 + block_a.x * 4u, k0 + block_a.y * 4u); }
      if (is_b) { ${fetchRight} }
    }
    if (k0 > k_begin) {
      for (var k4 = 0u; k4 < ${depth / 4}u; k4++) {
        let at_b = k4 * ${4 * lineB}u + (x ^ (${swizzle}));
        let at_a = k4 * ${4 * lineA}u + (y ^ (${swizzle}));
        ${fourK}
      }
    }
    workgroupBarrier();
    if (is_a) {${stage('a', lineA)}
    }
    if (is_b) {${stage('b', lineB)}
    }
    workgroupBarrier();
  }
  // In a loop whose length the compiler does not know: unrolled, the stores would be most of the code.
  ${lines(sides, c => `var sums${c}: array<vec4f, ${4 * panels}>;`)}
  ${lines(sides, c => lines(panels, s => lines(4, i => `sums${c}[${4 * s + i}] = acc${s}_${c}_${i};`)))}
  for (var i = 0u; i < select(0u, ${4 * panels}u, p.m > 0u); i++) {
    ${store}
  }
}`;
}

/** Columns of out that one workgroup computes. */
export const tiledColumns = ({ columns }: TileShape, gated: boolean): number =>
  gated ? columns / 2 : columns;
