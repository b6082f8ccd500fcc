import {
  type Access,
  checkArguments,
  type Form,
  flatGrid,
  instanceOf,
  listOf,
  numeric,
  oneOf,
  optional,
  type ProgramSpec,
  type ProgramTarget,
  Recorder,
  settings,
  type Tensor,
  text,
  whole,
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

/** The fields that flat and row kernels share. */
export const kernelForms = {
  key: text,
  bindings: listOf(oneOf('read', 'write')),
  fields: optional(text),
  body: text,
};
const textOrFunction: Form<unknown> = (value, place) =>
  typeof value === 'function' ? undefined : text(value, place);
const flatKernel = settings<FlatKernel>({ ...kernelForms, declarations: textOrFunction });

/** What `runFlat` and `runRows` add to or read from a dispatch; the recorder checks the rest. */
export const runForms = {
  rec: instanceOf(Recorder, 'a recorder'),
  params: listOf(numeric),
  work: settings({ flops: numeric, bytes: numeric }),
};
const flatRun = { ...runForms, count: whole() };

/** Builds a program with one invocation per element, for kernels without a reduction. */
export function flatProgram(kernel: FlatKernel): ProgramSpec {
  checkArguments('flatProgram', { kernel }, { kernel: flatKernel });
  const { key, bindings, fields, declarations, body } = kernel;
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
  checkArguments('runFlat', { rec, count, params, work }, flatRun);
  rec.dispatch({
    program,
    tensors,
    params: [count, ...params],
    grid: flatGrid(Math.ceil(count / LANES)),
    ...work,
  });
}

/** Chooses the widest WGSL type that divides `count` elements evenly, so that no vector reaches into the next row. */
export function flatType(count: number): { type: 'vec4f' | 'f32'; width: 4 | 1 } {
  checkArguments('flatType', { count }, { count: whole() });
  return count % 4 === 0 ? { type: 'vec4f', width: 4 } : { type: 'f32', width: 1 };
}
