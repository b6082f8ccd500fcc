import { type ProgramSpec, programFamily, type Recorder, type Tensor } from '../../engine/index.js';
import type { FloatType } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { lines as eachOf, scalarTensor, vec4Tensor } from '../shared/wgsl.js';
import type { OperandLayout } from './commonWgsl.js';

/**
 * A line of an operand is a row of A or a column of B: what one element of the product is summed over. Its exponent is the
 * biased one of its largest magnitude: 255 with an infinity or NaN, and at least LEAST, so that both the power of two
 * that brings the line to f16's range and its inverse are normal numbers.
 */
const LEAST = 15;

/** The largest magnitude of a scaled line is at least 2^14 and less than 2^15. */
const TOP = 14;

/** The exponent of lines that are not scaled. */
export const UNSCALED = 127 + TOP;

/** WGSL of the power of two that scales a line with this exponent (u32). */
export const scaleWgsl = (exponent: string): string =>
  `bitcast<f32>((${UNSCALED + 127}u - ${exponent}) << 23u)`;

/** WGSL function that scales sums of products of scaled lines back, given the exponents of the lines. */
export const scaledBack = /* wgsl */ `
fn scaled_back(sum: vec4f, left: u32, right: vec4u) -> vec4f {
  // In two steps, since the power of two may be outside the range of f32.
  let power = vec4i(left + right) - ${2 * UNSCALED};
  let half = power >> vec4u(1u);
  return sum * bitcast<vec4f>((half + 127) << vec4u(23u)) * bitcast<vec4f>((power - half + 127) << vec4u(23u));
}`;

/** Neighbouring lines that a workgroup takes, so that its loads are neighbours too. */
const linesAtOnce = (kContiguous: boolean): number => (kContiguous ? 1 : 16);

const program = programFamily((dtype: FloatType, kContiguous: boolean, aligned: boolean): ProgramSpec => {
  const lines = linesAtOnce(kContiguous);
  const parts = ROW_LANES / lines;
  const whole = kContiguous && aligned;
  const load = whole
    ? `let four = bitcast<vec4u>(x((line * p.columns + k) >> 2u)) & vec4u(0x7fffffffu);
      most = max(most, max(max(four.x, four.y), max(four.z, four.w)));`
    : `most = max(most, bitcast<u32>(x(${kContiguous ? 'line * p.columns + k' : 'k * p.lines + line'})) & 0x7fffffffu);`;
  const width = whole ? 4 : 1;
  return rowProgram({
    key: `exponents of lines ${dtype}${kContiguous ? '' : ' k-strided'}${whole ? ' vec4' : ''}`,
    bindings: ['read', 'write'],
    fields: 'lines: u32, first: u32',
    declarations: `${whole ? vec4Tensor('x', 1, dtype) : scalarTensor('x', 1, dtype)}
@group(0) @binding(2) var<storage, read_write> exponents: array<u32>;
var<workgroup> largest: array<u32, ${ROW_LANES}>;`,
    body: `
  let line = row * ${lines}u + lane % ${lines}u;
  // As integers, magnitudes are in order, infinities and NaN last.
  var most = 0u;
  if (line < p.lines) {
    for (var k = ${width}u * (lane / ${lines}u); k < p.columns; k += ${width * parts}u) {
      ${load}
    }
  }
  largest[lane] = most;
  workgroupBarrier();
  if (lane < ${lines}u && line < p.lines) {
    ${eachOf(parts - 1, i => `most = max(most, largest[lane + ${(i + 1) * lines}u]);`)}
    exponents[p.first + line] = max(most >> 23u, ${LEAST}u);
  }`,
  });
});

/** Records exponents[first + i] = the exponent of line i of an operand with `lines` lines of k elements. */
export function lineExponents(
  rec: Recorder,
  operand: Tensor,
  { dtype, kContiguous, aligned }: OperandLayout,
  [lines, k]: readonly [lines: number, k: number],
  exponents: Tensor,
  first: number,
): void {
  runRows(
    rec,
    program(dtype, kContiguous, aligned),
    [operand, exponents],
    [Math.ceil(lines / linesAtOnce(kContiguous)), k],
    [lines, first],
    { flops: operand.size, bytes: operand.byteLength + 4 * lines },
  );
}
