import type { MatrixUnit } from './builtInChoice.js';

/**
 * WGSL of the operations on subgroup matrices. The kernel uses only these, so that a test can replace them by an
 * emulation and run the rest of the kernel on devices without subgroup matrices.
 */
export interface MatrixOperations {
  /** Directives at the top of the program. */
  enable: string;
  /** Attributes of `main`. */
  attributes: string;
  /** Parameter of `main` that declares `subgroup`, if it is a builtin. */
  subgroupParameter: string;
  /** Functions. */
  declarations: string;
  /** Statements at the start of `main`. */
  setup: string;
  /** The type of a matrix of f32 sums. */
  sums: string;
  /** Declares the left f16 matrix (m x k) or the right one (k x n) with its lines in `tile`; `at`, `stride`: in vec4<f16>. */
  left(name: string, tile: string, at: string, stride: number): string;
  right(name: string, tile: string, at: string, stride: number): string;
  /** Declares the right matrix from a tile in which every line is one k. */
  rightByRows(name: string, tile: string, at: string, stride: number): string;
  multiplyAccumulate(sums: string, left: string, right: string): string;
  /** Writes sums row by row to `patches` from `at` on, in vec4f, the rows `stride` of them apart. */
  store(sums: string, at: string, stride: number): string;
}

/** The operations of Dawn's extension, whose type arguments are element, columns, rows. */
export const deviceMatrices = ({ m, n, k, subgroup, sized }: MatrixUnit): MatrixOperations => ({
  enable: `enable f16;\nenable subgroups;\nenable chromium_experimental_subgroup_matrix;${sized ? '\nenable subgroup_size_control;' : ''}`,
  attributes: sized ? `@subgroup_size(${subgroup})` : '',
  subgroupParameter: '@builtin(subgroup_id) subgroup: u32,',
  declarations: '',
  setup: '',
  sums: `subgroup_matrix_result<f32, ${n}, ${m}>`,
  left: (name, tile, at, stride) =>
    `let ${name} = subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, row_major>(&${tile}, ${at}, ${stride}u);`,
  right: (name, tile, at, stride) =>
    `let ${name} = subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, col_major>(&${tile}, ${at}, ${stride}u);`,
  rightByRows: (name, tile, at, stride) =>
    `let ${name} = subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, row_major>(&${tile}, ${at}, ${stride}u);`,
  multiplyAccumulate: (sums, left, right) =>
    `${sums} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sums});`,
  store: (sums, at, stride) => `subgroupMatrixStore<row_major>(&patches, ${at}, ${sums}, ${stride}u);`,
});

/**
 * WGSL function that rounds to the 11 bits of f16, by integers: a compiler may take a conversion to f16 and back for
 * nothing.
 */
export const roundedWgsl = /* wgsl */ `
fn rounded(value: vec4f) -> vec4f {
  return bitcast<vec4f>((bitcast<vec4u>(value) + vec4u(0x1000u)) & vec4u(0xffffe000u));
}`;
