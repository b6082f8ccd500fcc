import { ensure, f32Bits, type ProgramSpec, type Recorder, Tensor } from '../../engine/index.js';
import { checkOperands } from '../shared/checks.js';
import { runFlat } from '../shared/flat.js';
import { type Constant, type Expression, expressionOf, type InputKind } from './expression.js';
import { inPairs, type MapForm, type MapOperand, mapProgram } from './mapProgram.js';
import {
  broadcast,
  bytesRead,
  isSame,
  type Layout,
  layoutOf,
  type Piece,
  piecesOf,
  readingOf,
  type Strided,
} from './operands.js';
import { parseExpression } from './parse.js';

/** What an expression reads, by name: tensors, and numbers that are the same for all elements. */
export type MapInputs = Readonly<Record<string, Tensor | number>>;

/** Inputs of `recordMap`. */
export type OperandInputs = Readonly<Record<string, Tensor | Strided | number>>;

/** WebGPU grants 8 storage buffers; one is the output. */
const MOST_TENSORS = 7;
/** Words that are left for extents, strides and constants. */
const MOST_WORDS = 60;
const identifier = /^[A-Za-z][A-Za-z0-9_]*$/;

/** Programs by everything that they are generated from. */
const programs = new Map<string, ProgramSpec>();

/**
 * Computes an expression for every element of `out`, in one kernel: map(rec, 'sigmoid(z) - y', { z, y }, out).
 *
 * Inputs are tensors of any dtype that spread over the shape of `out` as in NumPy (from the last dimension on, an extent is
 * that of `out` or 1), so rows [1,N] or [N], columns [M,1] and scalars [1] need no copies; or numbers, other values of
 * which need no other program. Floats are computed in f32 and rounded to nearest even as they are stored; u32 tensors are
 * integers, and f32(i), u32(x) convert. An input may be `out` itself.
 *
 * The expression has numbers, names, + - * / % **, comparisons, && || !, c ? x : y, and these functions: abs ceil clamp cos
 * erf exp exp2 f32 floor gelu gelu_tanh isFinite isNaN log log2 max min pow quick_gelu relu relu2 round rsqrt sigmoid sign silu
 * sin softplus sqrt tanh trunc u32. `pi` and `infinity` are numbers; `index`, `row` and `column` are the place in `out`, as
 * integers (a row is all but the last dimension). Where an operand of min, max or clamp is NaN, either may result.
 *
 * @throws RmError INVALID_ARGUMENT with the place of what is wrong in the expression; when an input does not spread over
 *   `out`, or the expression does not read it. The device stays usable.
 */
export function map(rec: Recorder, expression: string, inputs: MapInputs, out: Tensor): void {
  recordMap(rec, 'map', expression, inputs, out);
}

/** `map` for kernels with a name of their own, some of whose operands may be read in another order. */
export function recordMap(
  rec: Recorder,
  kernel: string,
  text: string,
  inputs: OperandInputs,
  out: Tensor,
): void {
  checkOperands(kernel, rec, { out });
  ensure(
    typeof inputs === 'object' && inputs !== null && !(inputs instanceof Tensor),
    `${kernel}: the inputs are no object of tensors`,
    'Pass them by the names that the expression uses, as in { x, y }.',
  );
  if (typeof text !== 'string') parseExpression(kernel, text);
  const tensors = tensorsOf(kernel, inputs);
  const most = out.device.limits.maxStorageBufferBindingSize;
  const isLarge = out.byteLength > most || tensors.some(tensor => tensor.byteLength > most);
  const key = isLarge ? undefined : keyOf(kernel, text, inputs, out);
  let plan = key === undefined ? undefined : plans.get(key);
  if (!plan) {
    plan = planOf(kernel, text, inputs, out);
    if (plans.size >= MOST_PLANS) plans.clear();
    if (key !== undefined) plans.set(key, plan);
  }
  if (out.size === 0) return;
  if (isLarge) recordPieces(rec, plan, inputs, out, tensors);
  else recordPiece(rec, plan, inputs, out, tensors);
}

/** Records a map of tensors that one dispatch can bind. */
function recordPiece(
  rec: Recorder,
  { kernel, expression, program, layoutWords, count, bound, work }: MapPlan,
  inputs: OperandInputs,
  out: Tensor,
  tensors: readonly Tensor[],
): void {
  const params = layoutWords.slice();
  for (const constant of expression.constants) params.push(constantWord(kernel, inputs, constant));
  const binding = [out];
  for (const k of bound) binding.push(tensors[k]!);
  runFlat(rec, program, binding, count, params, work);
}

/** Records a map whose output or inputs are larger than a binding, in pieces. */
function recordPieces(
  rec: Recorder,
  plan: MapPlan,
  inputs: OperandInputs,
  out: Tensor,
  tensors: readonly Tensor[],
): void {
  for (const piece of piecesOf(plan.kernel, plan.layout, out, tensors)) {
    const part = planOfPiece(plan, piece, out.columns);
    recordPiece(rec, part, inputs, piece.out, piece.tensors);
  }
}

/** All of a map but its tensors and the values of its constants: made once for each text and shapes. */
interface MapPlan {
  readonly kernel: string;
  readonly text: string;
  readonly expression: Expression;
  readonly layout: Layout;
  readonly program: ProgramSpec;
  /** Words of the uniform block up to the constants. */
  readonly layoutWords: readonly number[];
  /** Invocations. */
  readonly count: number;
  /** The operands that are bound: all but the output. */
  readonly bound: readonly number[];
  readonly work: { flops: number; bytes: number };
}

const plans = new Map<string, MapPlan>();
const MOST_PLANS = 4096;

/** Everything that a plan depends on. */
export function keyOf(kernel: string, text: string, inputs: OperandInputs, out: Tensor): string {
  let key = `${kernel}\n${text}\n${out.dtype} ${out.shape.join()}`;
  for (const name in inputs) {
    const input = inputs[name]!;
    if (typeof input === 'number') key += `\n${name}`;
    else if ('strides' in input)
      key += `\n${name} ${input.tensor.dtype} ${input.strides.join()} ${input.offset} ${isSame(input.tensor, out)}`;
    else key += `\n${name} ${input.dtype} ${input.shape.join()} ${isSame(input, out)}`;
  }
  return key;
}

/** Checks an expression with its inputs, spread over `shape`; an input that is `out` takes no binding. */
export function spreadOver(
  kernel: string,
  text: string,
  inputs: OperandInputs,
  shape: readonly number[],
  type: 'f32' | 'u32',
  out?: Tensor,
): { expression: Expression; operands: Strided[] } {
  const { kinds, operands } = sorted(kernel, inputs, shape);
  ensure(
    operands.length <= MOST_TENSORS + (operands.some(({ tensor }) => out && isSame(tensor, out)) ? 1 : 0),
    `${kernel}: ${operands.length} tensors`,
    `A kernel binds ${MOST_TENSORS} and the output: compute it in parts.`,
  );
  return { expression: expressionOf(kernel, text, kinds, type), operands };
}

function planOf(kernel: string, text: string, inputs: OperandInputs, out: Tensor): MapPlan {
  const type = out.dtype === 'u32' ? 'u32' : 'f32';
  const { expression, operands } = spreadOver(kernel, text, inputs, out.shape, type, out);
  const tensors = operands.map(({ tensor }) => tensor);
  const layout = layoutOf(out.shape, operands);
  return planOfPiece({ kernel, text, expression }, { layout, out, tensors, start: 0 }, out.columns);
}

function planOfPiece(
  { kernel, text, expression }: Pick<MapPlan, 'kernel' | 'text' | 'expression'>,
  { layout, out, tensors, start }: Piece,
  columns: number,
): MapPlan {
  const rank = layout.extents.length;
  const last = layout.extents.at(-1)!;
  // What lies along one dimension is read in vectors to its end: buffers are padded.
  const width = last % 4 === 0 || rank === 1 ? 4 : 1;
  const tail = width === 4 && last % 4 !== 0;
  const operands: MapOperand[] = tensors.map((tensor, k) => ({
    dtype: tensor.dtype,
    reading: readingOf(layout, k, width),
    isOut: isSame(tensor, out),
  }));
  const form: MapForm = { expression, width, tail, rank, out: out.dtype, operands };
  const pairs = inPairs(out.dtype, width);
  const words = [
    ...(tail || pairs ? [out.size] : []),
    ...wordsOf(layout, width, operands),
    ...(expression.places ? [start, columns] : []),
  ];
  ensure(
    words.length + expression.constants.length <= MOST_WORDS,
    `${kernel}: ${tensors.length} inputs over ${rank} dimensions`,
    'Compute it in parts, or over fewer dimensions.',
  );
  let bytes = out.byteLength;
  for (let k = 0; k < tensors.length; k++) bytes += bytesRead(layout, k, tensors[k]!);
  return {
    kernel,
    text,
    expression,
    layout,
    program: programOf(kernel, text, form),
    layoutWords: words,
    count: pairs ? Math.ceil(out.size / 2) : Math.ceil(out.size / width),
    bound: operands.flatMap(({ isOut }, k) => (isOut ? [] : [k])),
    work: { flops: expression.operations * out.size, bytes },
  };
}

/** An expression as a part of a program's name. */
export const shortened = (text: string): string => text.replaceAll(/[\s:]+/g, ' ').slice(0, 48);

/** Names the dtypes of operands and how they are read. */
export const typesOf = ({ operands }: MapForm): string =>
  operands.map(({ dtype, reading, isOut }) => `, ${isOut ? 'out' : `${dtype} ${reading}`}`).join('');

function programOf(kernel: string, text: string, form: MapForm): ProgramSpec {
  const label = kernel === 'map' ? `map ${shortened(text)}` : kernel;
  const types = `${form.out} of ${form.rank} by ${form.width}${form.tail ? ' odd' : ''}${typesOf(form)}`;
  const identity = `${kernel}\n${text}\n${types}`;
  let program = programs.get(identity);
  if (!program) {
    if (programs.size >= MOST_PLANS) programs.clear();
    program = mapProgram(`${label}: ${types}`, form);
    programs.set(identity, program);
  }
  return program;
}

/** The tensors among the inputs, in their order. @throws RmError INVALID_ARGUMENT for what is neither tensor nor number. */
export function tensorsOf(kernel: string, inputs: OperandInputs): Tensor[] {
  const tensors: Tensor[] = [];
  for (const name in inputs) {
    const input: unknown = inputs[name];
    if (typeof input === 'number') continue;
    const tensor = input instanceof Tensor ? input : (input as Strided | undefined)?.tensor;
    if (tensor instanceof Tensor) tensors.push(tensor);
    else
      ensure(
        false,
        `${kernel}: '${name}' is ${input === null ? 'null' : typeof input}, neither tensor nor number`,
        'Pass a tensor, or a number that is the same for all elements.',
      );
  }
  return tensors;
}

/** Sorts inputs into tensors, spread over the output, and the kinds of all names. */
function sorted(
  kernel: string,
  inputs: OperandInputs,
  shape: readonly number[],
): { kinds: Record<string, InputKind>; operands: Strided[] } {
  const kinds: Record<string, InputKind> = {};
  const operands: Strided[] = [];
  const parameters: Record<string, InputKind> = {};
  for (const name in inputs) {
    const input = inputs[name]!;
    ensure(identifier.test(name), `${kernel}: an input is called '${name}'`, 'Use letters and digits.');
    if (typeof input === 'number') {
      parameters[name] = 'parameter';
      continue;
    }
    const operand =
      'strides' in input
        ? input
        : { tensor: input, strides: broadcast(kernel, name, input, shape), offset: 0 };
    kinds[name] = operand.tensor.dtype === 'u32' ? 'u32' : 'f32';
    operands.push(operand);
  }
  // Tensors come first: x0, x1, ... of an expression are the operands.
  return { kinds: Object.assign(kinds, parameters), operands };
}

/** Extents but the outermost, and offsets and strides of operands: in vectors where they are read as such. */
export function wordsOf(
  { extents, strides, offsets }: Layout,
  width: 1 | 4,
  operands: readonly MapOperand[],
) {
  const words: number[] = [];
  const last = extents.length - 1;
  for (let d = 1; d <= last; d++) words.push(d === last ? extents[d]! / width : extents[d]!);
  operands.forEach(({ reading }, k) => {
    const unit = reading === 'vector' ? 4 : 1;
    words.push((offsets[k]! / unit) >>> 0);
    for (let d = 0; d <= last; d++) words.push(d === last ? strides[k]![d]! : strides[k]![d]! / unit);
  });
  return words;
}

export function constantWord(kernel: string, inputs: OperandInputs, { type, value }: Constant): number {
  const number = typeof value === 'string' ? (inputs[value] as number) : value;
  if (type === 'f32') return f32Bits(number);
  ensure(
    number >>> 0 === number,
    `${kernel}: '${value}' is ${number}, an integer is needed`,
    `Pass one from 0 to ${2 ** 32 - 1}, or use f32(...) in the expression.`,
  );
  return number;
}
