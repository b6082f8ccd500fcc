import {
  type Access,
  checkArguments,
  flatGrid,
  listOf,
  type ProgramSpec,
  type Recorder,
  settings,
  type Tensor,
  text,
  whole,
} from '../../engine/index.js';
import { kernelForms, runForms } from './flat.js';
import { flatBuiltins, flatGroup } from './wgsl.js';

/** Invocations that share a row in `rowProgram`: a square number, as workgroupReduction needs. */
export const ROW_LANES = 64;

/** The parts of a program for `rowProgram`. Storage bindings start at 1; `p` is the uniform block. */
export interface RowKernel {
  /** Names the kernel and everything that its WGSL is generated from. */
  key: string;
  bindings: readonly Access[];
  /** Fields of the uniform block `p` after `rows` and `columns`. */
  fields?: string;
  /** WGSL of the bindings, from 1 on, and of functions and reductions. */
  declarations: string;
  /** Statements of invocation `lane` of ROW_LANES for row `row`, which is uniform in the workgroup. */
  body: string;
}

const rowKernel = settings<RowKernel>({ ...kernelForms, declarations: text });
const rowRun = { ...runForms, shape: listOf(whole(), 2, 2) };

/** Builds a program with one workgroup per row, for kernels that reduce rows. */
export function rowProgram(kernel: RowKernel): ProgramSpec {
  checkArguments('rowProgram', { kernel }, { kernel: rowKernel });
  const { key, bindings, fields, declarations, body } = kernel;
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

/** Records a row program over a matrix; `params` follow rows and columns in the uniform block. */
export function runRows(
  rec: Recorder,
  program: ProgramSpec,
  tensors: readonly Tensor[],
  shape: readonly [rows: number, columns: number],
  params: readonly number[],
  work: { flops: number; bytes: number },
): void {
  checkArguments('runRows', { rec, shape, params, work }, rowRun);
  rec.dispatch({ program, tensors, params: [...shape, ...params], grid: flatGrid(shape[0]), ...work });
}
