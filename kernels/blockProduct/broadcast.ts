import type { ProgramTarget } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { type Arithmetic, head, PARTIAL } from './commonWgsl.js';

/**
 * Block product for drivers that run on the CPU, where loads are gathers and barriers are expensive: a workgroup is one
 * subgroup. Every lane loads an element of A for one row and passes it on by subgroupBroadcast; every lane owns
 * `rows` x 4 outputs.
 *
 * Tile: `rows` x 4*subgroup. Needs: subgroups of one fixed size.
 */
export function broadcastWgsl(
  arithmetic: Arithmetic,
  subgroup: number,
  rows: number,
  target: ProgramTarget,
): string {
  const { parts, sum, add, value, spread, multiplyAdd } = arithmetic;
  const panels = Math.ceil(rows / subgroup);
  return `enable subgroups;
${head(arithmetic, target)}
@compute @workgroup_size(${subgroup}) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(subgroup_invocation_id) lane: u32,
) {
  let row = wid.y * ${rows}u;
  let column = p.firstColumn + (wid.x * ${subgroup}u + lane) * 4u;
  ${lines(panels, t => `let a${t} = aAt(row + ${t * subgroup}u + lane);`)}
  let b = p.bOffset + columns(column);
  var sums: array<${sum}, ${rows}>;
  for (var chunk = 0u; chunk == 0u || chunk < p.k; chunk += p.chunk) {
    let end = min(p.k, chunk + p.chunk);
    ${lines(rows, i => `sums[${i}] = ${sum}();`)}
    for (var start = chunk; start < end; start += ${PARTIAL}u) {
      ${lines(rows, i => `var t${i} = ${sum}();`)}
      for (var k = start; k < min(end, start + ${PARTIAL}u); k++) {
        ${lines(panels, t => parts.map(part => `let va${t}${part} = p.sign * aMatrix${part}[a${t} + k * p.aColumn];`).join(' '))}
        let vb = ${value(part => `vec4f(${[...'xyzw'].map(c => `bMatrix${part}[b.${c} + k * p.bRow]`).join(', ')})`)};
        ${lines(rows, i => {
          const a = spread(
            part => `subgroupBroadcast(va${Math.floor(i / subgroup)}${part}, ${i % subgroup}u)`,
          );
          return `t${i} = ${multiplyAdd(`t${i}`, a, 'vb')};`;
        })}
      }
      ${lines(rows, i => `sums[${i}] = ${add(`sums[${i}]`, `t${i}`)};`)}
    }
    for (var i = 0u; i < min(${rows}u, p.m - row); i++) { store(row + i, column, sums[i], chunk == 0u); }
  }
}`;
}
