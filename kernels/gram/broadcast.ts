import type { ProgramTarget } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { chunkEnd, fastParts, head, type OuterProductsLayout, tileOrigin } from './commonWgsl.js';
import { CHUNK_ROWS } from './outlierRows.js';

/** Rows of a workgroup's tile. */
export const BROADCAST_ROWS = 32;
/** Rows of x and y that are multiplied together: as many as the registers hold. */
const DEPTH = 2;

const steps = (count: number, step: (d: number) => string): string[] =>
  Array.from({ length: count }, (_, d) => step(d));

/**
 * Fast sum for drivers that run on the CPU, built like matmul/broadcast.ts: a workgroup is one subgroup. Its lanes hold a
 * panel of x in registers, split into parts, and pass its elements on by subgroupBroadcast with a constant lane; every
 * lane owns 32 x 4 elements. No workgroup memory.
 *
 * The additions to out are in a loop whose length the compiler does not know: unrolled, they would be most of the code to
 * compile.
 *
 * Tile: 32 x 4*subgroup. Needs: subgroups of one fixed size.
 */
export function broadcastWgsl(layout: OuterProductsLayout, target: ProgramTarget, subgroup: number): string {
  const [rows, depth] = [BROADCAST_ROWS, DEPTH];
  const panels = Math.ceil(rows / (4 * subgroup));
  const element = (part: string, i: number, d: number) =>
    `subgroupBroadcast(x${Math.floor(i / (4 * subgroup))}_${d}.${part}[${i % 4}], ${Math.floor(i / 4) % subgroup}u)`;
  const sum = (terms: string[]): string => {
    if (terms.length === 1) return terms[0]!;
    const half = terms.length / 2;
    return `(${sum(terms.slice(0, half))} + ${sum(terms.slice(half))})`;
  };
  return `enable subgroups;
${head(layout, target)}
${fastParts(layout)}
@compute @workgroup_size(${subgroup}) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(subgroup_invocation_id) lane: u32,
) {
  ${tileOrigin(rows, 4 * subgroup)}
  let column = column0 + lane * 4u;
  ${lines(panels, t => `let at${t} = p.firstRow + row0 + ${4 * subgroup * t}u + lane * 4u;`)}
  for (var start = 0u; start < p.rows; start += ${CHUNK_ROWS}u) {
    let chunk = start / ${CHUNK_ROWS}u;
    ${lines(panels, t => `let qx${t} = gridX(chunk, at${t});`)}
    let qy = gridY(chunk, column);
    ${lines(rows, i => `var exact${i} = vec4f(); var rest${i} = vec4f();`)}
    for (var k = start; k < ${chunkEnd}; k += ${depth}u) {
      ${lines(
        depth,
        d => `// Past the end the last row is read again, with weight 0.
      let k${d} = min(k + ${d}u, p.rows - 1u);
      let w${d} = select(0.0, weights[k${d}], k + ${d}u < p.rows);
      ${lines(panels, t => `let x${t}_${d} = splitX(w${d}, x(k${d}, at${t}), qx${t});`)}
      let vy${d} = y(k${d}, column);
      let y${d} = splitY(vy${d}, qy);`,
      )}
      ${lines(
        rows,
        i => `${lines(depth, d => `let h${i}_${d} = ${element('hi', i, d)};`)}
      exact${i} += ${sum(steps(depth, d => `h${i}_${d} * y${d}.hi`))};
      rest${i} += ${sum(steps(depth, d => `(h${i}_${d} * y${d}.lo + ${element('lo', i, d)} * vy${d})`))};`,
      )}
    }
    var exact = array<vec4f, ${rows}>(${steps(rows, i => `exact${i}`)});
    var rest = array<vec4f, ${rows}>(${steps(rows, i => `rest${i}`)});
    for (var i = 0u; i < min(${rows}u, p.windowRows - row0); i++) {
      let sum = addPair4(loadRow(row0 + i, column), twoSum4(exact[i], rest[i]));
      storeRow(row0 + i, column, sum);
    }
  }
}`;
}
