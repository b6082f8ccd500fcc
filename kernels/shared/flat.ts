import {
  type Access,
  flatGrid,
  type ProgramSpec,
  type ProgramTarget,
  type Recorder,
  type Tensor,
} from '../../engine/index.js';
import { flatBuiltins, flatGroup } from './wgsl.js';

const LANES = 64;

/** Bits of a quiet NaN for uniform blocks: kernels write NaN where an index is out of range. */
export const NAN_BITS = 0x7fc00000;

/** The parts of a program for `flatProgram`. Storage bindings start at 1; `p` is the uniform block. */
export interface FlatKernel {
  /** Names the kernel and everything that its WGSL is generated from. */
  key: string;
  bindings: readonly Access[];
  /** Fields of the uniform block `p` after `count`, e.g. "factor: f32". */
  fields?: string;
  /** WGSL of the bindings, from 1 on, and of functions. */
  declarations: string | ((target: ProgramTarget) => string);
  /** Statements for element `i` < p.count. */
  body: string;
}

/** Builds a program with one invocation per element, for kernels without a reduction. */
export function flatProgram({ key, bindings, fields, declarations, body }: FlatKernel): ProgramSpec {
  return {
    key,
    bindings,
    wgsl: target => /* wgsl */ `
struct Params { count: u32, ${fields ?? ''} }
@group(0) @binding(0) var<uniform> p: Params;
${typeof declarations === 'string' ? declarations : declarations(target)}
@compute @workgroup_size(${LANES}) fn main(${flatBuiltins}) {
  let i = ${flatGroup} * ${LANES}u + lane;
  if (i >= p.count) { return; }
${body}
}`,
  };
}

/** Records a flat program over `count` elements; `params` follow the count in the uniform block. */
export function runFlat(
  rec: Recorder,
  program: ProgramSpec,
  tensors: readonly Tensor[],
  count: number,
  params: readonly number[],
  work: { flops: number; bytes: number },
): void {
  rec.dispatch({
    program,
    tensors,
    params: [count, ...params],
    grid: flatGrid(Math.ceil(count / LANES)),
    ...work,
  });
}

/** Chooses the widest WGSL type that divides `count` elements evenly, so that no vector reaches into the next row. */
export const flatType = (count: number): { type: 'vec4f' | 'f32'; width: 4 | 1 } =>
  count % 4 === 0 ? { type: 'vec4f', width: 4 } : { type: 'f32', width: 1 };
