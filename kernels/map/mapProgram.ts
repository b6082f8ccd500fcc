import type { DType, ProgramSpec } from '../../engine/index.js';
import { flatProgram } from '../shared/flat.js';
import { type MathFunction, mathWgsl } from '../shared/mathWgsl.js';
import { narrowTo, scalarTensor, vec4Tensor } from '../shared/wgsl.js';
import type { Expression } from './expression.js';
import type { Reading } from './operands.js';

/** Everything that a map's WGSL is generated from. */
export interface MapForm {
  readonly expression: Expression;
  /** Elements that are computed at a time. */
  readonly width: 1 | 4;
  /** The last invocation has fewer than four elements. */
  readonly tail: boolean;
  /** Number of dimensions. */
  readonly rank: number;
  readonly out: DType;
  readonly operands: readonly MapOperand[];
}

export interface MapOperand {
  readonly dtype: DType;
  readonly reading: Reading;
  /** It is the output before it is overwritten. */
  readonly isOut: boolean;
}

const isHalf = (dtype: DType): boolean => dtype === 'f16' || dtype === 'bf16';

/** Whether elements are written two at a time, because 16-bit elements share a word. */
export const inPairs = (out: DType, width: 1 | 4): boolean => isHalf(out) && width === 1;

/** Fields of the uniform block after `count`: extents but the outermost, offsets and strides of operands, constants. */
export const mapFields = ({ expression, width, tail, rank, out, operands }: MapForm): string =>
  [
    ...(tail || inPairs(out, width) ? ['size: u32'] : []),
    ...Array.from({ length: rank - 1 }, (_, d) => `n${d + 1}: u32`),
    ...operands.flatMap((_, k) => [
      `o${k}: u32`,
      ...Array.from({ length: rank }, (_, d) => `s${k}_${d}: u32`),
    ]),
    ...(expression.places ? ['first_place: u32', 'row_length: u32'] : []),
    ...expression.constants.map(({ type }, k) => `k${k}: ${type}`),
  ].join(', ');

/** WGSL of the coordinates c0, c1, ... of invocation i; the last counts groups of `width`. */
function coordinates(rank: number): string {
  if (rank === 1) return '  let c0 = i;';
  const lines = ['  var rest = i;'];
  for (let d = rank - 1; d > 0; d--) lines.push(`  let c${d} = rest % p.n${d};`, `  rest = rest / p.n${d};`);
  return [...lines, '  let c0 = rest;'].join('\n');
}

/** WGSL of the elements of operand k; whole vectors are counted, not their elements. */
function load(k: number, { isOut, reading }: MapOperand, rank: number, width: 1 | 4): string {
  const name = isOut ? 'y' : `v${k}`;
  const last = rank - 1;
  const outer = Array.from({ length: last }, (_, d) => ` + c${d} * p.s${k}_${d}`).join('');
  const start = `p.o${k}${outer}`;
  switch (reading) {
    case 'scalar':
      return `${name}(${start} + c${last} * p.s${k}_${last})`;
    case 'vector':
      return `${name}(${start} + c${last})`;
    case 'splat':
      return `vec4(${name}(${start}))`;
    case 'gather': {
      const each = (j: number) => `${name}(${start} + (c${last} * ${width}u + ${j}u) * p.s${k}_${last})`;
      return `vec4(${[0, 1, 2, 3].map(each).join(', ')})`;
    }
  }
}

/** WGSL of the statements that store the value of invocation i. */
function store({ out, width, tail }: MapForm): string {
  if (isHalf(out)) return width === 4 ? storeWords(tail) : storePair;
  if (!tail) return '  y_[i] = value(i);';
  return `  let whole = value(i);
  let left = p.size - 4u * i;
  if (left >= 4u) { y_[i] = whole; return; }
  for (var j = 0u; j < left; j++) { y_[i][j] = whole[j]; }`;
}

/** An odd last element keeps the other half of its word, which belongs to the next row if this is a view. */
const storePair = `  let low = narrow(bitcast<u32>(value(2u * i)));
  let next = 2u * i + 1u;
  if (next < p.size) { y_[i] = low | (narrow(bitcast<u32>(value(next))) << 16u); }
  else { y_[i] = low | (y_[i] & 0xffff0000u); }`;

const storeWords = (tail: boolean): string => `  let bits = bitcast<vec4u>(value(i));
  let words = vec2u(narrow(bits.x) | (narrow(bits.y) << 16u), narrow(bits.z) | (narrow(bits.w) << 16u));
${
  tail
    ? `  let left = p.size - 4u * i;
  if (left >= 4u) { y_[i] = words; return; }
  y_[i].x = select(words.x, (words.x & 0xffffu) | (y_[i].x & 0xffff0000u), left == 1u);
  if (left == 3u) { y_[i].y = (words.y & 0xffffu) | (y_[i].y & 0xffff0000u); }`
    : '  y_[i] = words;'
}`;

const places = (width: 1 | 4): string =>
  width === 4
    ? `  let index = U(p.first_place + 4u * i) + U(0u, 1u, 2u, 3u);
  let row = index / U(p.row_length);
  let column = index % U(p.row_length);`
    : `  let index = p.first_place + i;
  let row = index / p.row_length;
  let column = index % p.row_length;`;

/**
 * WGSL of the inputs, bound from 2 on, and of `value(i)`, which computes element i, or elements 4i .. 4i+3. `y` is the
 * output where an input is the output too; `calls` are functions that others call too.
 */
export function valueWgsl(
  { expression, width, rank, out, operands }: MapForm,
  calls: readonly MathFunction[] = [],
): string {
  const inputs = operands.map((operand, k) => ({ ...operand, k })).filter(({ isOut }) => !isOut);
  const declared = inputs.map(({ dtype, reading, k }, i) =>
    (reading === 'vector' ? vec4Tensor : scalarTensor)(`v${k}`, i + 2, dtype),
  );
  const [T, U, B] = width === 4 ? ['vec4f', 'vec4u', 'vec4<bool>'] : ['f32', 'u32', 'bool'];
  return `
alias T = ${T};
alias U = ${U};
alias B = ${B};
${declared.join('\n')}
${mathWgsl([...expression.calls, ...calls])}
fn value(i: u32) -> ${out === 'u32' ? 'U' : 'T'} {
${coordinates(rank)}
${expression.places ? places(width) : ''}
${operands.map((operand, k) => `  let x${k} = ${load(k, operand, rank, width)};`).join('\n')}
${expression.statements}
  return ${expression.value};
}`;
}

/** Builds the program of a map; `map.ts` fills its uniform block in the order of `mapFields`. */
export function mapProgram(key: string, form: MapForm): ProgramSpec {
  const { width, out, operands } = form;
  return flatProgram({
    key,
    bindings: ['write', ...operands.filter(({ isOut }) => !isOut).map(() => 'read' as const)],
    fields: mapFields(form),
    declarations: `
${(width === 4 ? vec4Tensor : scalarTensor)('y', 1, out, 'read_write')}
${isHalf(out) ? narrowTo[out as 'f16' | 'bf16'] : ''}
${valueWgsl(form)}`,
    body: store(form),
  });
}
