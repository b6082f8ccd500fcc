import { lines } from '../shared/wgsl.js';
import {
  eachFactor,
  type FactorWgsl,
  head,
  type MatmulLayout,
  type OperandLayout,
  rowDistance,
  rowEnd,
  tileOrigin,
} from './commonWgsl.js';

/**
 * Matmul for drivers that run on the CPU, where every load is a gather and a barrier is expensive: a workgroup is one
 * subgroup. Its lanes hold a panel of A in registers and pass its elements on by subgroupBroadcast with a constant lane;
 * every lane owns `rows` x 4 outputs (twice as many sums in a gated product). No workgroup memory.
 *
 * Tile: `rows` x 4*subgroup. Needs: subgroups of one fixed size.
 */
export function broadcastWgsl(layout: MatmulLayout, subgroup: number, rows: number): string {
  const { a } = layout;
  const each = (wgsl: FactorWgsl, separator?: string) => eachFactor(layout, wgsl, separator);
  // Four loads of A give the tile's rows for four k: a lane's vec4 runs along k, or along rows.
  const panels = Math.ceil(rows / (a.kContiguous ? subgroup : 4 * subgroup));
  const setupA = lines(panels, t =>
    a.kContiguous
      ? `let a_at${t} = min(row0 + ${t * subgroup}u + lane, p.m - 1u) * ${rowDistance('a', a, 'p.k')};`
      : clampedLine(`a_at${t}`, `row0 + ${t * 4 * subgroup}u + lane * 4u`, 'p.m', a.aligned),
  );
  const setupB = each((name, operand) =>
    operand.kContiguous
      ? lines(
          4,
          j => `let ${name}_at${j} = min(column + ${j}u, p.n - 1u) * ${rowDistance(name, operand, 'p.k')};`,
        )
      : clampedLine(`${name}_at`, 'column', 'p.n', operand.aligned),
  );
  const loadA = a.kContiguous
    ? lines(panels, t => `let va${t} = a4(a_at${t} + k);`)
    : lines(4, kk =>
        lines(panels, t => `let va${t}_${kk} = ${stridedLoad('a', `a_at${t}`, `k + ${kk}u`, 'p.m', a)};`),
      );
  const loadB = each((name, operand) =>
    operand.kContiguous
      ? `${lines(4, j => `let ${name}_c${j} = ${name}4(${name}_at${j} + k);`)}
      ${lines(4, kk => `let ${name}_v${kk} = vec4f(${[0, 1, 2, 3].map(j => `${name}_c${j}[${kk}]`).join(', ')});`)}`
      : lines(
          4,
          kk => `let ${name}_v${kk} = ${stridedLoad(name, `${name}_at`, `k + ${kk}u`, 'p.n', operand)};`,
        ),
  );
  const accumulate = (i: number, element: (kk: number) => string) =>
    each(name => addFourProducts(name, i, element));
  const multiply = lines(rows, i =>
    a.kContiguous
      ? `let s${i} = subgroupBroadcast(va${Math.floor(i / subgroup)}, ${i % subgroup}u);
      ${accumulate(i, kk => `s${i}[${kk}]`)}`
      : `${lines(4, kk => `let s${i}_${kk} = ${broadcastElement(i, subgroup, `_${kk}`)};`)}
      ${accumulate(i, kk => `s${i}_${kk}`)}`,
  );
  const tail = `
  for (var k = p.k & ~3u; k < p.k; k++) {
    ${lines(panels, t => `let va${t} = ${a.kContiguous ? `a(a_at${t} + k)` : stridedLoad('a', `a_at${t}`, 'k', 'p.m', a)};`)}
    ${each(
      (name, operand) =>
        `let ${name}_v = ${
          operand.kContiguous
            ? `vec4f(${[0, 1, 2, 3].map(j => `${name}(${name}_at${j} + k)`).join(', ')})`
            : stridedLoad(name, `${name}_at`, 'k', 'p.n', operand)
        };`,
    )}
    ${lines(
      rows,
      i => `let s${i} = ${
        a.kContiguous
          ? `subgroupBroadcast(va${Math.floor(i / subgroup)}, ${i % subgroup}u)`
          : broadcastElement(i, subgroup, '')
      };
      ${each(name => `${name}_acc${i} = ${name}_acc${i} + s${i} * ${name}_v;`)}`,
    )}
  }`;
  return `enable subgroups;
${head(layout)}
@compute @workgroup_size(${subgroup}) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(subgroup_invocation_id) lane: u32,
) {
  ${tileOrigin(layout, rows, 4 * subgroup)}
  let column = column0 + lane * 4u;
  ${setupA}
  ${setupB}
  ${each(name => lines(rows, i => `var ${name}_acc${i} = vec4f();`))}
  for (var k = 0u; k < (p.k & ~3u); k += 4u) {
    ${loadA}
    ${loadB}
    ${multiply}
  }
  ${layout.oddK ? tail : ''}
  // In a loop whose length the compiler does not know: unrolled, the stores took most of the compile time.
  ${each(name => `var ${name}_sums: array<vec4f, ${rows}>;`)}
  ${each(name => lines(rows, i => `${name}_sums[${i}] = ${name}_acc${i};`))}
  for (var i = 0u; i < min(${rows}u, ${rowEnd(layout)} - row0); i++) {
    store(row0 + i, column, ${each(name => `${name}_sums[i]`, ', ')});
  }
}`;
}

/** Sums four products before adding them to the long sum: as fast, with a quarter of the roundings at its size. */
const addFourProducts = (name: string, i: number, element: (kk: number) => string): string => {
  const [p0, p1, p2, p3] = [0, 1, 2, 3].map(kk => `${element(kk)} * ${name}_v${kk}`);
  return `${name}_acc${i} = ${name}_acc${i} + ((${p0} + ${p1}) + (${p2} + ${p3}));`;
};

/** WGSL of the offsets of four neighbours in a k-strided row, clamped to the row; sums of clamped ones are never stored. */
const clampedLine = (at: string, start: string, length: string, aligned: boolean): string =>
  aligned
    ? `let ${at} = min(${start}, ${length} - 4u);`
    : `let ${at} = min(vec4u(${start}) + vec4u(0u, 1u, 2u, 3u), vec4u(${length} - 1u));`;

function stridedLoad(name: string, at: string, k: string, length: string, operand: OperandLayout): string {
  const distance = rowDistance(name, operand, length);
  return operand.aligned
    ? `${name}4((${k}) * ${distance} + ${at})`
    : `vec4f(${[0, 1, 2, 3].map(j => `${name}((${k}) * ${distance} + ${at}[${j}])`).join(', ')})`;
}

/** WGSL of row i of the tile if each lane holds four neighbouring rows. */
const broadcastElement = (i: number, subgroup: number, suffix: string): string => {
  const panel = Math.floor(i / (4 * subgroup));
  return `subgroupBroadcast(va${panel}${suffix}[${i % 4}], ${Math.floor(i / 4) % subgroup}u)`;
};
