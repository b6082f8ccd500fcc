import { flatBuiltins, lines } from '../shared/wgsl.js';
import { eachFactor, type FactorWgsl, head, type MatmulLayout, tileOrigin } from './commonWgsl.js';

/** Lanes of a workgroup that work together on four columns, or each on its own four columns. */
const TOGETHER = 64;
const PER_LANE = 8;

/** Columns of out that one workgroup computes. */
export const matvecColumns = (perLane: boolean): number => (perLane ? 4 * PER_LANE : 4);

/**
 * out[m, N] = A[m, K] @ B[N, K]^T for m of 1 to 4 (decoding). On GPUs a workgroup reads four rows of B along k, every
 * word once and neighbouring words together, and adds the lanes' sums in a fixed tree. On drivers that run on the CPU each
 * lane computes its columns alone (`perLane`), since barriers are expensive there and cache lines stay cached.
 *
 * Tile: m x 4, or m x 32. Needs at most 8 KiB of workgroup memory.
 */
export function matvecWgsl(layout: MatmulLayout, m: number, perLane: boolean): string {
  const lanes = perLane ? PER_LANE : TOGETHER;
  const [start, step] = perLane ? ['0u', '1u'] : ['lane', `${lanes}u`];
  const each = (wgsl: FactorWgsl, separator?: string) => eachFactor(layout, wgsl, separator);
  const tail = `
  for (var k = (p.k & ~3u) + ${start}; k < p.k; k += ${step}) {
    ${each(
      name => `let ${name}_v = vec4f(${[0, 1, 2, 3].map(j => `${name}(${name}_at${j} + k)`).join(', ')});
    ${lines(m, i => `${name}_acc${i} += a(a_at${i} + k) * ${name}_v;`)}`,
    )}
  }`;
  const finish = perLane
    ? lines(m, i => `store(row0 + ${i}u, column, ${each(name => `${name}_acc${i}`, ', ')});`)
    : `
  ${each(name => lines(m, i => `${name}_sums[${i * lanes}u + lane] = ${name}_acc${i};`))}
  workgroupBarrier();
  for (var half = ${lanes / 2}u; half > 0u; half >>= 1u) {
    if (lane < half) {
      ${each(name => lines(m, i => `${name}_sums[${i * lanes}u + lane] += ${name}_sums[${i * lanes}u + lane + half];`))}
    }
    workgroupBarrier();
  }
  if (lane < ${m}u) { store(row0 + lane, column, ${each(name => `${name}_sums[lane * ${lanes}u]`, ', ')}); }`;
  return `${head(layout)}
${perLane ? '' : each(name => `var<workgroup> ${name}_sums: array<vec4f, ${lanes * m}>;`)}
@compute @workgroup_size(${lanes}) fn main(${flatBuiltins}) {
  ${tileOrigin(layout, m, matvecColumns(perLane))}
  let column = column0${perLane ? ' + lane * 4u' : ''};
  ${lines(m, i => `let a_at${i} = min(row0 + ${i}u, p.m - 1u) * p.k;`)}
  ${each(name => lines(4, j => `let ${name}_at${j} = min(column + ${j}u, p.n - 1u) * p.k;`))}
  ${each(name => lines(m, i => `var ${name}_acc${i} = vec4f();`))}
  for (var k = 4u * ${start}; k < (p.k & ~3u); k += 4u * ${step}) {
    ${lines(m, i => `let va${i} = a4(a_at${i} + k);`)}
    ${each(
      name => `${lines(4, j => `let ${name}_v${j} = ${name}4(${name}_at${j} + k);`)}
    ${lines(m, i => `${name}_acc${i} += vec4f(${[0, 1, 2, 3].map(j => `dot(va${i}, ${name}_v${j})`).join(', ')});`)}`,
    )}
  }
  ${layout.oddK ? tail : ''}
  ${finish}
}`;
}
