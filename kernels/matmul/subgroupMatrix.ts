import { lines } from '../shared/wgsl.js';
import { blockPosition, fetchBlock } from './blocks.js';
import type { MatmulChoice, MatrixUnit } from './builtInChoice.js';
import { eachFactor, head, type MatmulLayout, type OperandLayout, tileOrigin } from './commonWgsl.js';
import { scaledBack, scaleWgsl, UNSCALED } from './lineExponents.js';
import { deviceMatrices, type MatrixOperations, roundedWgsl } from './matrixOperations.js';
import {
  arrangement,
  type FactorTypes,
  matrixDepth,
  matrixTileColumns,
  partsOf,
  productsOf,
} from './matrixTiles.js';

type Choice = Extract<MatmulChoice, { variant: 'subgroupMatrix' }>;

/** Threads of a workgroup: as many as every WebGPU device allows. */
const THREADS = 256;

/** Number of f32 in the workgroup's patch for sums: a vec4 for every thread. */
const PATCH = 4 * THREADS;

/**
 * Sums leave the matrices for ordinary f32 registers after this many k: matrix units truncate, and the error of sums that
 * are truncated grows with their number.
 */
export const PROMOTED = 256;

/**
 * Matmul on matrix units, which multiply f16 and sum in f32. An operand that is not f16 becomes a sum of one or two f16
 * while it is staged: every line is scaled by a power of two, so that bf16 is exact in one part and f32 right to 2^-22 in
 * two (docs/kernels.md has the bounds). The sums are scaled back when they are complete.
 *
 * A workgroup stages steps of k in workgroup memory, k-contiguous and with zeros beyond the edges (a subgroup matrix that
 * reaches out of bounds is not clipped but moved), and meanwhile fetches the next steps into registers. Sums go
 * through a patch of workgroup memory to the threads that add them up and store them.
 *
 * Tile: `rows` x `columns` (a gated product: half as many columns of both factors). Needs at most 16 KiB of workgroup
 * memory and the features shader-f16, subgroups and chromium-experimental-subgroup-matrix, and subgroup-size-control
 * where the unit is `sized`.
 */
export function subgroupMatrixWgsl(
  layout: MatmulLayout,
  choice: Choice,
  operations: MatrixOperations = deviceMatrices(choice.unit),
): string {
  const { rows, unit, single } = choice;
  const { m, n, k, subgroup } = unit;
  const { gated } = layout;
  const [down, across] = arrangement(subgroup);
  const subgroups = down * across;
  const columns = matrixTileColumns(choice, gated !== undefined);
  const types: FactorTypes = gated
    ? [layout.a.dtype, layout.b.dtype, gated.up.dtype]
    : [layout.a.dtype, layout.b.dtype];
  const depth = matrixDepth(types, choice);
  const operands = stagedOperands(layout, { rows, columns, depth, single });
  const [a, ...factors] = operands as [Staged, ...Staged[]];
  const [matrixRows, matrixColumns] = [rows / down / m, columns / across / n];
  const matrices = matrixRows * matrixColumns;
  const slots = PATCH / (m * n);
  const rounds = (matrices * subgroups) / slots;
  const each = (wgsl: (name: string) => string) => eachFactor(layout, wgsl);
  const promote = (name: string) =>
    lines(
      rounds,
      round => `
      ${lines(matrices, i => {
        const first = i * subgroups - round * slots;
        if (first >= slots || first + subgroups <= 0) return '';
        const slot = first < 0 ? `subgroup - ${-first}u` : `subgroup + ${first}u`;
        const store = operations.store(`${name}_sums${i}`, `(${slot}) * ${(m * n) / 4}u`, n / 4);
        return first >= 0 && first + subgroups <= slots
          ? store
          : `if (subgroup >= ${Math.max(0, -first)}u && subgroup < ${slots - first}u) { ${store} }`;
      })}
      workgroupBarrier();
      ${name}_total${round} += patches[thread];
      workgroupBarrier();`,
    );
  return `${operations.enable}
${head(layout)}
${lines(operands.length, i => operands[i]!.declarations)}
var<workgroup> patches: array<vec4f, ${PATCH / 4}>;
${operations.declarations}
${layout.exponents ? `${scaledBack}\n${roundedWgsl}` : ''}
${storeTotal(layout, choice, columns)}
@compute @workgroup_size(${THREADS}) ${operations.attributes} fn main(
  ${operations.subgroupParameter} @builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  ${operations.setup}
  ${tileOrigin(layout, rows, columns)}
  let row = (subgroup / ${across}u) * ${rows / down}u;
  let column = (subgroup % ${across}u) * ${columns / across}u;
  ${each(name => lines(rounds, i => `var ${name}_total${i} = vec4f();`))}
  ${eachBlock(operands, (operand, block) => operand.declare(block))}
  ${eachBlock(operands, (operand, block) => block.within(`${operand.fetch(block, 'k_begin')}\n${operand.stage(block)}`))}
  workgroupBarrier();
  for (var first = k_begin; first < k_end; first += ${PROMOTED}u) {
    // Sums live here alone, so that compilers keep them in place: NVK moved most of them in every round.
    ${each(name => lines(matrices, i => `var ${name}_sums${i} = ${operations.sums}();`))}
    let last = min(first + ${PROMOTED}u, k_end);
    // Each round fetches the next ${depth} k into registers, multiplies those that are staged and then overwrites them.
    for (var k0 = first; k0 < last; k0 += ${depth}u) {
      if (k0 + ${depth}u < k_end) {
        ${eachBlock(operands, (operand, block) => block.within(operand.fetch(block, `k0 + ${depth}u`)))}
      }
      for (var step = 0u; step < ${depth / 4}u; step += ${k / 4}u) {
        ${multiplyStep(operations, { a, factors, unit, matrixRows, matrixColumns })}
      }
      workgroupBarrier();
      ${eachBlock(operands, (operand, block) => block.within(operand.stage(block)))}
      workgroupBarrier();
    }
    ${each(promote)}
  }
  ${lines(
    rounds,
    i =>
      `store_total(thread + ${i * THREADS}u, row0, column0, ${eachFactor(layout, name => `${name}_total${i}`, ', ')});`,
  )}
}`;
}

interface Multiply {
  a: Staged;
  factors: readonly Staged[];
  unit: MatrixUnit;
  matrixRows: number;
  matrixColumns: number;
}

/** WGSL of the products of one step of k, which begins at vec4 number `step` of the lines. */
function multiplyStep(
  operations: MatrixOperations,
  { a, factors, unit: { m, n }, matrixRows, matrixColumns }: Multiply,
): string {
  const at = (line: string, offset: number, { stride }: Staged) =>
    `(${line} + ${offset}u) * ${stride}u + step`;
  const loadLeft = lines(matrixRows, i =>
    lines(a.parts, part => operations.left(`left${i}_${part}`, a.tile(part), at('row', i * m, a), a.stride)),
  );
  const loadRight = (factor: Staged) =>
    lines(matrixColumns, j =>
      lines(factor.parts, part =>
        operations.right(
          `${factor.name}${j}_${part}`,
          factor.tile(part),
          at('column', j * n, factor),
          factor.stride,
        ),
      ),
    );
  const multiply = (factor: Staged) =>
    productsOf(a.parts, factor.parts)
      .map(([left, right]) =>
        lines(matrixRows * matrixColumns, i =>
          operations.multiplyAccumulate(
            `${factor.name}_sums${i}`,
            `left${Math.floor(i / matrixColumns)}_${left}`,
            `${factor.name}${i % matrixColumns}_${right}`,
          ),
        ),
      )
      .join('\n');
  return [loadLeft, ...factors.map(factor => `${loadRight(factor)}\n${multiply(factor)}`)].join('\n');
}

/** WGSL function `store_total(e, row0, column0, sums...)`: completes vec4 number `e` of the tile's sums. */
function storeTotal(
  layout: MatmulLayout,
  { rows, unit: { m, n, subgroup } }: Choice,
  columns: number,
): string {
  const [down, across] = arrangement(subgroup);
  const subgroups = down * across;
  const matrixColumns = columns / across / n;
  const exponent = ({ dtype }: OperandLayout, wgsl: string) => (dtype === 'f16' ? `${UNSCALED}u` : wgsl);
  const offset = (name: string) => (name === 'up' ? 'p.m + p.n' : 'p.m');
  const scale = (name: string, operand: OperandLayout) => `
  let left_${name} = ${exponent(layout.a, 'exponents[min(row, p.m - 1u)]')};
  let right_${name} = vec4u(${[0, 1, 2, 3]
    .map(j => exponent(operand, `exponents[${offset(name)} + min(column + ${j}u, p.n - 1u)]`))
    .join(', ')});
  let sum_${name} = scaled_back(total_${name}, left_${name}, right_${name});`;
  return `
fn store_total(e: u32, row0: u32, column0: u32, ${eachFactor(layout, name => `total_${name}: vec4f`, ', ')}) {
  let owner = e / ${(m * n) / 4}u % ${subgroups}u;
  let matrix = e / ${((m * n) / 4) * subgroups}u;
  let within = e % ${(m * n) / 4}u;
  let row = row0 + (owner / ${across}u) * ${rows / down}u + (matrix / ${matrixColumns}u) * ${m}u + within / ${n / 4}u;
  let column = column0 + (owner % ${across}u) * ${columns / across}u + (matrix % ${matrixColumns}u) * ${n}u
    + within % ${n / 4}u * 4u;
  ${layout.exponents ? eachFactor(layout, scale) : ''}
  store(row, column, ${eachFactor(layout, name => `${layout.exponents ? 'sum' : 'total'}_${name}`, ', ')});
}`;
}

/** An operand in workgroup memory, line by line, in one or two parts. */
interface Staged {
  name: string;
  parts: 1 | 2;
  /** Distance of lines in vec4<f16>. */
  stride: number;
  /** Blocks of four lines by four k. */
  blocks: number;
  declarations: string;
  tile(part: number): string;
  /** WGSL of the thread's block number g: declare its registers, fetch it, stage it. */
  declare(g: Block): string;
  fetch(g: Block, k0: string): string;
  stage(g: Block): string;
}

/** A block of a thread. */
interface Block {
  g: number;
  /** WGSL of its number in the operand. */
  number: string;
  /** WGSL of statements for threads that have this block. */
  within(statements: string): string;
}

/** vec4<f16> between staged lines, so that the rows of a matrix begin in different banks. */
const PADDING = 2;

function stagedOperands(
  layout: MatmulLayout,
  { rows, columns, depth, single }: { rows: number; columns: number; depth: number; single: boolean },
): Staged[] {
  const { a, b, gated } = layout;
  const right = (name: string, operand: OperandLayout, first: string) =>
    staging(name, operand, columns, 'p.n', 'column0', first, depth, single);
  return [
    staging('a', a, rows, 'p.m', 'row0', '0u', depth, single),
    right('b', b, 'p.m'),
    ...(gated ? [right('up', gated.up, 'p.m + p.n')] : []),
  ];
}

function staging(
  name: string,
  layout: OperandLayout,
  tileLines: number,
  extent: string,
  line0: string,
  firstExponent: string,
  depth: number,
  single: boolean,
): Staged {
  const parts = partsOf(layout.dtype, single);
  const stride = depth / 4 + PADDING;
  const scaled = layout.dtype !== 'f16';
  const tile = (part: number) => `tile_${name}${part}`;
  const id = ({ g }: Block) => `${name}${g}`;
  const scales = ({ g }: Block) =>
    [0, 1, 2, 3]
      .map(j =>
        scaleWgsl(
          `exponents[${firstExponent} + min(${line0} + at_${name}${g}.x * 4u + ${j}u, ${extent} - 1u)]`,
        ),
      )
      .join(', ');
  return {
    name,
    parts,
    stride,
    blocks: (tileLines * depth) / 16,
    declarations: `${fetchBlock(name, layout, extent, 'k')}
${lines(parts, part => `var<workgroup> ${tile(part)}: array<vec4<f16>, ${tileLines * stride}>;`)}`,
    tile,
    declare: block => `let at_${id(block)} = ${blockPosition(block.number, layout, tileLines, depth)};
  ${scaled ? `let scale_${id(block)} = vec4f(${scales(block)});` : ''}
  var next_${id(block)}: mat4x4f;`,
    fetch: (block, k0) =>
      `next_${id(block)} = fetch_${name}(${line0} + at_${id(block)}.x * 4u, ${k0} + at_${id(block)}.y * 4u);`,
    stage: block =>
      lines(4, j => {
        const value = `next_${id(block)}[${j}]${scaled ? ` * scale_${id(block)}[${j}]` : ''}`;
        const at = `(at_${id(block)}.x * 4u + ${j}u) * ${stride}u + at_${id(block)}.y`;
        if (parts === 1) return `${tile(0)}[${at}] = vec4<f16>(${value});`;
        return `{
      let value = ${value};
      let large = rounded(value);
      ${tile(0)}[${at}] = vec4<f16>(large);
      ${tile(1)}[${at}] = vec4<f16>(value - large);
    }`;
      }),
  };
}

/** WGSL for every block that a thread takes: the operands' blocks are numbered one after the other. */
function eachBlock(operands: readonly Staged[], wgsl: (operand: Staged, block: Block) => string): string {
  let first = 0;
  const text: string[] = [];
  for (const operand of operands) {
    const end = first + operand.blocks;
    for (let g = Math.floor(first / THREADS); g * THREADS < end; g++) {
      const number = `thread + ${g * THREADS}u - ${first}u`;
      const everyThread = g * THREADS >= first && (g + 1) * THREADS <= end;
      // Numbers below 0 are large ones.
      const within = (statements: string) =>
        everyThread ? statements : `if (${number} < ${operand.blocks}u) { ${statements} }`;
      text.push(wgsl(operand, { g, number, within }));
    }
    first = end;
  }
  return text.join('\n');
}
