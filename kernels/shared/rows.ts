import { type Access, flatGrid, type ProgramSpec, type Recorder, type Tensor } from '../../engine/index.js';
import { flatBuiltins, flatGroup } from './wgsl.js';

/** Invocations that share one row: a square number, for workgroupReduction. */
export const ROW_LANES = 64;

/** What `rowProgram` makes a program of: its storage bindings are declared from 1 on, its parameters are `p`. */
export interface RowKernel {
  /** Name of the kernel and of everything its WGSL is generated from. */
  key: string;
  bindings: readonly Access[];
  /** Fields of the uniform block `p` after `rows` and `columns`. */
  fields?: string;
  /** Bindings from 1 on, functions and reductions. */
  declarations: string;
  /** Statements of all ROW_LANES invocations `lane` of row `row`; the row is the same for the whole workgroup. */
  body: string;
}

/** A program with one workgroup per row: the shape of all kernels that reduce rows. */
export function rowProgram({ key, bindings, fields, declarations, body }: RowKernel): ProgramSpec {
  return {
    key,
    bindings,
    wgsl: () => /* wgsl */ `
struct Params { rows: u32, columns: u32, ${fields ?? ''} }
@group(0) @binding(0) var<uniform> p: Params;
${declarations}
@compute @workgroup_size(${ROW_LANES}) fn main(${flatBuiltins}) {
  let row = ${flatGroup};
  if (row >= p.rows) { return; }
${body}
}`,
  };
}

/** Records a row program; `params` follow rows and columns in the uniform block. */
export function runRows(
  rec: Recorder,
  program: ProgramSpec,
  tensors: readonly Tensor[],
  shape: readonly [rows: number, columns: number],
  params: readonly number[],
  work: { flops: number; bytes: number },
): void {
  rec.dispatch({ program, tensors, params: [...shape, ...params], grid: flatGrid(shape[0]), ...work });
}
