import { lines } from '../shared/wgsl.js';
import type { MatmulChoice } from './builtInChoice.js';
import { head, type MatmulLayout, type OperandLayout, tileOrigin } from './commonWgsl.js';

type Choice = Extract<MatmulChoice, { variant: 'subgroupMatrix' }>;

type Order = 'row_major' | 'col_major';

/**
 * WGSL of the five operations on subgroup matrices. The kernel uses only these, so that a test can replace them by an
 * emulation and run the rest of the kernel on devices without subgroup matrices.
 */
export interface MatrixOperations {
  /** Directives at the top of the program. */
  enable: string;
  /** Parameter of `main` that declares `subgroup`, if it is a builtin. */
  subgroupParameter: string;
  /** Functions. */
  declarations: string;
  /** Statements at the start of `main`. */
  setup: string;
  /** Declares a matrix of f32 sums, all 0. */
  sums(name: string): string;
  /** Declares the left f16 matrix (m x k), read from tile_a at `offset`, or the right one (k x n), from tile_b. */
  left(name: string, order: Order, offset: string, stride: number): string;
  right(name: string, order: Order, offset: string, stride: number): string;
  multiplyAccumulate(sums: string, left: string, right: string): string;
  /** Writes sums row by row to `patches` from `offset` on. */
  store(sums: string, offset: string): string;
}

/** The operations of Dawn's extension, whose type arguments are element, columns, rows. */
const chromium = ({ m, n, k }: Choice['config']): MatrixOperations => ({
  enable: 'enable f16;\nenable subgroups;\nenable chromium_experimental_subgroup_matrix;',
  subgroupParameter: '@builtin(subgroup_id) subgroup: u32,',
  declarations: '',
  setup: '',
  sums: name => `var ${name}: subgroup_matrix_result<f32, ${n}, ${m}>;`,
  left: (name, order, offset, stride) =>
    `let ${name} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, ${order}>(&tile_a, ${offset}, ${stride}u);`,
  right: (name, order, offset, stride) =>
    `let ${name} = subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, ${order}>(&tile_b, ${offset}, ${stride}u);`,
  multiplyAccumulate: (sums, left, right) =>
    `${sums} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sums});`,
  store: (sums, offset) => `subgroupMatrixStore<row_major>(&patches, ${offset}, ${sums}, ${n}u);`,
});

/** Subgroups of 32 in a workgroup, two along rows, four along columns. */
const [DOWN, ACROSS] = [2, 4];
const SUBGROUPS = DOWN * ACROSS;
const THREADS = 32 * SUBGROUPS;
/** f16 elements between staged lines, so that the rows of a matrix begin in different banks. */
const PADDING = 8;
/** Number of f32 in the workgroup's patch for finished sums. */
const PATCH = 1024;

/**
 * Matmul on tensor cores: operands f16, sums f32. A workgroup of eight subgroups stages steps of k of both operands in
 * workgroup memory, in their memory order and with zeros beyond the edges (a subgroup matrix that reaches out of bounds is
 * not clipped but moved). Meanwhile it fetches the next steps into registers. Finished matrices go through a patch of
 * workgroup memory, from which all threads complete and store them, with the edges masked.
 *
 * Tile: `rows` x `columns`, a subgroup rows/2 x columns/4. Needs 12 to 16 KiB of workgroup memory, the features
 * shader-f16, subgroups and chromium-experimental-subgroup-matrix, and subgroups of 32.
 */
export function subgroupMatrixWgsl(
  layout: MatmulLayout,
  { rows, columns, config }: Choice,
  operations: MatrixOperations = chromium(config),
): string {
  const { m, n, k } = config;
  const depth = rows + columns === 128 ? 32 : 16;
  const a = staging('a', layout.a, rows, depth, 'p.m');
  const b = staging('b', layout.b, columns, depth, 'p.n');
  const [matrixRows, matrixColumns] = [rows / DOWN / m, columns / ACROSS / n];
  const matrices = matrixRows * matrixColumns;
  // The patch has room for the matrices of this many subgroups at a time.
  const storing = Math.min(SUBGROUPS, PATCH / (m * n));
  const rounds = SUBGROUPS / storing;
  return `${operations.enable}
${head(layout)}
${a.declarations}
${b.declarations}
var<workgroup> patches: array<f32, ${storing * m * n}>;
${operations.declarations}
@compute @workgroup_size(${THREADS}) fn main(
  ${operations.subgroupParameter} @builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  ${operations.setup}
  ${tileOrigin(layout, rows, columns)}
  let row = (subgroup / ${ACROSS}u) * ${rows / DOWN}u;
  let column = (subgroup % ${ACROSS}u) * ${columns / ACROSS}u;
  ${lines(matrices, i => operations.sums(`sums${i}`))}
  ${a.registers}
  ${b.registers}
  // Each round fetches ${depth} k into registers, multiplies the previous ones and then overwrites them.
  for (var k0 = k_begin; k0 < k_end + ${depth}u; k0 += ${depth}u) {
    if (k0 < k_end) {
      ${a.fetch('row0')}
      ${b.fetch('column0')}
    }
    if (k0 > k_begin) {
      ${lines(depth / k, step => {
        const at = (line: string, i: number, { order, stride }: Staging) =>
          order === 'row_major'
            ? `(${line} + ${i}u) * ${stride}u + ${step * k}u`
            : `${step * k * stride}u + ${line} + ${i}u`;
        return `{
        ${lines(matrixRows, i => operations.left(`left${i}`, a.order, at('row', i * m, a), a.stride))}
        ${lines(matrixColumns, j => operations.right(`right${j}`, other(b.order), at('column', j * n, b), b.stride))}
        ${lines(matrices, i => operations.multiplyAccumulate(`sums${i}`, `left${Math.floor(i / matrixColumns)}`, `right${i % matrixColumns}`))}
      }`;
      })}
    }
    workgroupBarrier();
    ${a.stage}
    ${b.stage}
    workgroupBarrier();
  }
  for (var e = 0u; e < select(0u, ${matrices * rounds}u, p.m > 0u); e++) {
    let matrix = e / ${rounds}u;
    let first = (e % ${rounds}u) * ${storing}u;
    if (subgroup >= first && subgroup < first + ${storing}u) {
      let at = (subgroup - first) * ${m * n}u;
      switch matrix {
        ${lines(matrices, i => `case ${i}u: { ${operations.store(`sums${i}`, 'at')} }`)}
        default: {}
      }
    }
    workgroupBarrier();
    if (thread < ${(storing * m * n) / 4}u) {
      let owner = first + thread / ${(m * n) / 4}u;
      let within = thread % ${(m * n) / 4}u;
      let value = vec4f(patches[4u * thread], patches[4u * thread + 1u], patches[4u * thread + 2u], patches[4u * thread + 3u]);
      store(
        row0 + (owner / ${ACROSS}u) * ${rows / DOWN}u + (matrix / ${matrixColumns}u) * ${m}u + within / ${n / 4}u,
        column0 + (owner % ${ACROSS}u) * ${columns / ACROSS}u + (matrix % ${matrixColumns}u) * ${n}u + (within % ${n / 4}u) * 4u,
        value,
      );
    }
    workgroupBarrier();
  }
}`;
}

const other = (order: Order): Order => (order === 'row_major' ? 'col_major' : 'row_major');

interface Staging {
  declarations: string;
  /** Order of the staged tile, seen as lines x k. */
  order: Order;
  stride: number;
  registers: string;
  fetch(line0: string): string;
  stage: string;
}

/**
 * WGSL that stages an operand in workgroup memory, four neighbouring f16 at a time: tile_x[line][k] if k is contiguous in
 * memory, else tile_x[k][line].
 */
function staging(
  name: 'a' | 'b',
  { kContiguous, aligned }: OperandLayout,
  tileLines: number,
  depth: number,
  extent: string,
): Staging {
  const [outer, inner] = kContiguous ? [tileLines, depth] : [depth, tileLines];
  const stride = inner + PADDING;
  const perThread = (tileLines * depth) / 4 / THREADS;
  const [outerEnd, innerEnd] = kContiguous ? [extent, 'p.k'] : ['p.k', extent];
  const load = aligned
    ? `fn half4_${name}(o: u32, i: u32) -> vec4<f16> {
  // An aligned row ends at a multiple of 4, so its vec4 are inside or outside as a whole.
  if (o < ${outerEnd} && i < ${innerEnd}) { return bitcast<vec4<f16>>(${name}_[(o * ${innerEnd} + i) >> 2u]); }
  return vec4<f16>();
}`
    : `fn half_${name}(o: u32, i: u32) -> f16 {
  if (o >= ${outerEnd} || i >= ${innerEnd}) { return 0.0h; }
  let at = o * ${innerEnd} + i;
  return bitcast<vec2<f16>>(${name}_[at >> 1u])[at & 1u];
}
fn half4_${name}(o: u32, i: u32) -> vec4<f16> {
  return vec4<f16>(${[0, 1, 2, 3].map(j => `half_${name}(o, i + ${j}u)`).join(', ')});
}`;
  const group = (g: number) => `(thread + ${g * THREADS}u)`;
  const outerOf = (g: number) => `${group(g)} / ${inner / 4}u`;
  const innerOf = (g: number) => `${group(g)} % ${inner / 4}u * 4u`;
  return {
    declarations: `${load}\nvar<workgroup> tile_${name}: array<f16, ${outer * stride}>;`,
    order: kContiguous ? 'row_major' : 'col_major',
    stride,
    registers: lines(perThread, g => `var next_${name}${g}: vec4<f16>;`),
    fetch: line0 => {
      const [outer0, inner0] = kContiguous ? [line0, 'k0'] : ['k0', line0];
      return lines(
        perThread,
        g => `next_${name}${g} = half4_${name}(${outer0} + ${outerOf(g)}, ${inner0} + ${innerOf(g)});`,
      );
    },
    stage: lines(
      perThread,
      g => `{
      let at = ${outerOf(g)} * ${stride}u + ${innerOf(g)};
      ${lines(4, j => `tile_${name}[at + ${j}u] = next_${name}${g}[${j}];`)}
    }`,
    ),
  };
}
