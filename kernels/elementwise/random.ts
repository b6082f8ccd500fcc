/**
 * Fills a tensor with random numbers: element i is a function of the seed and of i alone, so that a seed gives the same
 * numbers on every device, for uniform ones to the bit.
 *
 * Shapes: out of any shape, f32 or u32.
 * Mapping: one invocation per element. The hash is pcg4d (Jarzynski and Olano, "Hash functions for GPU rendering", 2020) of
 * (i, seed, 0, 1). Uniform numbers are its first word, or the upper 24 bits of it times 2^-24; normal ones come of two words
 * by Box and Muller.
 */
import {
  checkArguments,
  ensure,
  oneOf,
  type ProgramSpec,
  type Recorder,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { checkOperands } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

/** Settings of `random`. */
export interface RandomOptions {
  /** A whole number below 2^32. */
  readonly seed: number;
  /** 'uniform': [0, 1) in f32, all integers in u32; 'normal': mean 0 and deviation 1, f32 only. */
  readonly distribution: 'uniform' | 'normal';
}

const randomSettings = settings<RandomOptions>({
  seed: whole(0, 2 ** 32 - 1),
  distribution: oneOf('uniform', 'normal'),
});

const program = (key: string, type: 'f32' | 'u32', value: string): ProgramSpec =>
  flatProgram({
    key: `random ${key}: ${type}`,
    bindings: ['write'],
    fields: 'seed: u32',
    declarations: /* wgsl */ `
@group(0) @binding(1) var<storage, read_write> out: array<${type}>;
fn hash(i: u32) -> vec4u {
  var v = vec4u(i, p.seed, 0u, 1u) * 1664525u + 1013904223u;
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  v ^= v >> vec4u(16u);
  v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
  return v;
}`,
    body: `  let v = hash(i);\n  out[i] = ${value};`,
  });

const programs = {
  uniform: program('uniform', 'f32', 'f32(v.x >> 8u) * 0x1p-24f'),
  words: program('uniform', 'u32', 'v.x'),
  // The logarithm is of a number in (0, 1].
  normal: program(
    'normal',
    'f32',
    'sqrt(-2.0 * log(f32((v.x >> 8u) + 1u) * 0x1p-24f)) * cos(6.2831855 * f32(v.y >> 8u) * 0x1p-24f)',
  ),
};

/** Fills `out` [any shape] f32 or u32 with random numbers of a seed. @throws RmError INVALID_ARGUMENT. */
export function random(rec: Recorder, out: Tensor, options: RandomOptions): void {
  checkOperands('random', rec, { out });
  checkArguments('random', { options }, { options: randomSettings });
  const { seed, distribution } = options;
  const isWords = out.dtype === 'u32';
  ensure(
    out.dtype === 'f32' || (isWords && distribution === 'uniform'),
    `random: '${out.label}' is ${out.dtype}, for ${distribution} numbers`,
    'Fill a tensor of f32, or of u32 with uniform numbers, and `convert` it.',
  );
  runFlat(rec, isWords ? programs.words : programs[distribution], [out], out.size, [seed], {
    flops: 20 * out.size,
    bytes: out.byteLength,
  });
}
