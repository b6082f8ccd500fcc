import {
  checkArguments,
  ensure,
  f32Bits,
  flag,
  oneOf,
  optional,
  type ProgramSpec,
  type Recorder,
  RmError,
  Scope,
  settings,
  Tensor,
} from '../../engine/index.js';
import {
  constantWord,
  type MapInputs,
  type OperandInputs,
  shortened,
  spreadOver,
  tensorsOf,
  typesOf,
  wordsOf,
} from '../map/map.js';
import type { MapForm } from '../map/mapProgram.js';
import { convert } from '../map/named.js';
import { broadcastShape, isSame, layoutOf, readingOf } from '../map/operands.js';
import { checkOperands } from '../shared/checks.js';
import { runFlat } from '../shared/flat.js';
import { runRows } from '../shared/rows.js';
import { rowTiles } from '../shared/rowTiles.js';
import { type Operation, operationOf, type Reduction } from './operations.js';
import { callsOf, type ReduceForm, reduceProgram, totalType } from './reduceProgram.js';

/** What a kernel reads: a tensor, or an expression of several that is computed as it reads them (see `map`). */
export type Elements = Tensor | { readonly map: string; readonly inputs: MapInputs };

/** Settings of `reduce`. */
export interface ReduceOptions {
  /** The dimension that goes away: the last (default), or the first. */
  readonly axis?: 'first' | 'last';
  /** Combines the result with what `out` holds, as in out += sum. */
  readonly accumulate?: boolean;
}

const reduceForms = {
  options: settings<ReduceOptions>({ axis: optional(oneOf('last', 'first')), accumulate: optional(flag) }),
};

/** An expression with its inputs over a shape. */
export interface Source {
  readonly text: string;
  readonly inputs: OperandInputs;
  readonly shape: readonly number[];
}

/** Rows that one invocation adds along the first axis, and most ranges of rows. */
const ROWS = 64;
const MOST_RANGES = 256;
/** Rows shorter than this are not divided, nor any of so many rows. */
const LONG_ROW = 4096;
const MANY_ROWS = 64;
const CHUNK = 2048;
const MOST_CHUNKS = 1024;

/**
 * Reduces a tensor of any rank along its last or first dimension: reduce(rec, 'sum', x, out), or an expression of several,
 * without storing it: reduce(rec, 'sum', { map: 'a * b', inputs: { a, b } }, out). `out` has the other dimensions (the one
 * that goes away may stay as 1). The reduction is 'sum', 'mean', 'max', 'min' or one of your own, such as
 * { start: 1, combine: 'a * b' }. It combines totals with totals: squares, for example, belong into the expression of x.
 *
 * Floats are combined in f32; u32 has sum (modulo 2^32), max and min. max and min of a row with NaN are NaN. The same inputs
 * give the same bits.
 *
 * @throws RmError INVALID_ARGUMENT when shapes, dtypes or expressions do not fit, or the dimension has no elements.
 */
export function reduce(
  rec: Recorder,
  reduction: Reduction,
  x: Elements,
  out: Tensor,
  options: ReduceOptions = {},
): void {
  checkOperands('reduce', rec, { out });
  checkArguments('reduce', { options }, reduceForms);
  recordReduce(rec, 'reduce', reduction, sourceOf('reduce', x), out, options);
}

/** The expression of what a kernel reads. @throws RmError INVALID_ARGUMENT. */
export function sourceOf(kernel: string, x: Elements): Source {
  if (x instanceof Tensor) return { text: 'x', inputs: { x }, shape: x.shape };
  const { map, inputs } = x ?? {};
  ensure(
    typeof map === 'string' && typeof inputs === 'object' && inputs !== null,
    `${kernel}: 'x' is ${x === null ? 'null' : typeof x}, no tensor and no expression of tensors`,
    "Pass a tensor, or { map: 'a * b', inputs: { a, b } }.",
  );
  const tensors = tensorsOf(kernel, inputs);
  ensure(tensors.length > 0, `${kernel}: the expression reads no tensor`, 'Pass one: it has the shape.');
  return { text: map, inputs, shape: broadcastShape(kernel, tensors) };
}

/** `reduce` for kernels with a name of their own. */
export function recordReduce(
  rec: Recorder,
  kernel: string,
  reduction: Reduction,
  source: Source,
  out: Tensor,
  { axis = 'last', accumulate = false }: ReduceOptions = {},
): void {
  const type = out.dtype === 'u32' ? 'u32' : 'f32';
  const operation = operationOf(kernel, reduction, type);
  ensure(
    !accumulate || !operation.finish,
    `${kernel}: '${operation.name}' cannot be accumulated, since totals are not what it stores`,
    'Accumulate sums, and divide by `map`.',
  );
  const [rows, columns] = checkShapes(kernel, source.shape, out, axis);
  // Nothing is recorded before the expression is known to fit.
  spreadOver(kernel, source.text, source.inputs, source.shape, type);
  if (out.size === 0) return;
  const work: ReduceWork = { rec, kernel, operation, source, axis, accumulate, rows, columns };
  if (out.dtype === 'f32' || out.dtype === 'u32') {
    recordTiles(work, out);
    return;
  }
  // Two 16-bit results share a word, and belong to different workgroups.
  using scope = new Scope(out.device);
  const wide = scope.tensor(out.shape, 'f32', `wide results of ${kernel}`);
  if (accumulate) convert(rec, out, wide);
  recordTiles(work, wide);
  convert(rec, wide, out);
}

/** A reduction of a matrix with checked operands. */
interface ReduceWork {
  readonly rec: Recorder;
  readonly kernel: string;
  readonly operation: Operation;
  readonly source: Source;
  readonly axis: 'first' | 'last';
  readonly accumulate: boolean;
  readonly rows: number;
  readonly columns: number;
}

/** The tensor as a matrix whose rows or columns are reduced. @throws RmError INVALID_ARGUMENT. */
function checkShapes(
  kernel: string,
  shape: readonly number[],
  out: Tensor,
  axis: 'first' | 'last',
): [rows: number, columns: number] {
  const reduced = shape.at(axis === 'last' ? -1 : 0);
  const rest = axis === 'last' ? shape.slice(0, -1) : shape.slice(1);
  const others = rest.reduce((a, b) => a * b, 1);
  const kept = axis === 'last' ? [...rest, 1] : [1, ...rest];
  const fits = [rest, kept, ...(others === 1 ? [[1]] : [])].some(form => form.join() === out.shape.join());
  if (reduced === undefined || !fits)
    throw new RmError(
      'INVALID_ARGUMENT',
      `${kernel}: 'out' is [${out.shape}] ${out.dtype}, [${rest}] is what is left of [${shape}] without its ${axis} dimension`,
      'Pass an output of that shape.',
    );
  ensure(
    reduced > 0 || others === 0,
    `${kernel}: the ${axis} dimension of [${shape}] has no elements`,
    'Pass at least one element for each result.',
  );
  return axis === 'last' ? [others, reduced] : [reduced, others];
}

/** Tensors that are larger than a binding are reduced some rows at a time. */
function recordTiles(work: ReduceWork, out: Tensor): void {
  const { source, rows, columns, axis } = work;
  const most = out.device.limits.maxStorageBufferBindingSize;
  const large = tensorsOf(work.kernel, source.inputs).find(({ byteLength }) => byteLength > most);
  if (!large || axis === 'first') {
    recordMatrix(work, source, out, 0);
    return;
  }
  const size = rows * columns;
  for (const { start, tensor } of rowTiles(large.reshape([large.size / columns, columns]))) {
    const inputs: Record<string, OperandInputs[string]> = {};
    for (const [name, input] of Object.entries(source.inputs)) {
      const whole = input instanceof Tensor && input.size === size;
      inputs[name] = whole ? input.reshape([rows, columns]).rows(start, tensor.rowCount) : input;
    }
    const part = { text: source.text, inputs, shape: [tensor.rowCount, columns] };
    recordMatrix({ ...work, rows: tensor.rowCount }, part, out, start);
  }
}

/** Records one matrix, in two stages where its rows or columns are long. `first` is the place of its first result. */
function recordMatrix(work: ReduceWork, source: Source, out: Tensor, first: number): void {
  const { operation, axis, rows, columns } = work;
  const { chunk, chunks } = axis === 'last' ? chunksOfRow(rows, columns) : rangesOfRows(rows);
  if (chunks === 1) {
    record(work, source, out, { stage: 'whole', first, chunk, chunks });
    return;
  }
  using scope = new Scope(out.device);
  const results = axis === 'last' ? rows : columns;
  const shape = axis === 'last' ? [results, chunks] : [chunks, results];
  const totals = scope.tensor(shape, totalType(operation), `totals of ${work.kernel}`);
  record(work, source, totals, { stage: 'partial', first: 0, chunk, chunks });
  const final = { ...work, rows: shape[0]!, columns: shape[1]! };
  const whole = axis === 'last' ? chunks : shape[0]!;
  record(final, { text: 'x', inputs: { x: totals }, shape }, out, {
    stage: 'final',
    first,
    chunk: whole,
    chunks: 1,
  });
}

function chunksOfRow(rows: number, columns: number): { chunk: number; chunks: number } {
  if (rows >= MANY_ROWS || columns <= LONG_ROW) return { chunk: columns, chunks: 1 };
  const chunk = Math.max(CHUNK, 4 * Math.ceil(columns / MOST_CHUNKS / 4));
  return { chunk, chunks: Math.ceil(columns / chunk) };
}

function rangesOfRows(rows: number): { chunk: number; chunks: number } {
  const chunk = Math.max(ROWS, Math.ceil(rows / MOST_RANGES));
  return { chunk, chunks: Math.ceil(rows / chunk) };
}

const programs = new Map<string, ProgramSpec>();

function record(
  { rec, kernel, operation, axis, accumulate, rows, columns, source: whole }: ReduceWork,
  source: Source,
  out: Tensor,
  {
    stage,
    first,
    chunk,
    chunks,
  }: Pick<ReduceForm, 'stage'> & { first: number; chunk: number; chunks: number },
): void {
  const type = stage === 'final' ? totalType(operation) : operation.type;
  const { expression, operands } = spreadOver(kernel, source.text, source.inputs, source.shape, type);
  const tensors = operands.map(({ tensor }) => tensor);
  for (const tensor of tensors)
    ensure(!isSame(tensor, out), `${kernel}: '${tensor.label}' is input and output`, 'Pass another output.');
  const layout = layoutOf(source.shape, operands);
  // Functions of a reduction of one's own are written for one element at a time.
  const width = columns % 4 === 0 && (axis === 'first' || callsOf(operation).length === 0) ? 4 : 1;
  const elements: MapForm = {
    expression,
    width,
    tail: false,
    rank: layout.extents.length,
    out: type,
    operands: tensors.map((tensor, k) => ({
      dtype: tensor.dtype,
      reading: readingOf(layout, k, width),
      isOut: false,
    })),
  };
  const adds = accumulate && stage !== 'partial';
  const form: ReduceForm = { elements, operation, axis, stage, accumulate: adds };
  const label = kernel === 'reduce' ? `reduce ${operation.name} ${shortened(whole.text)}` : kernel;
  const forms = `${operation.type} ${axis} ${stage}${adds ? ' added' : ''} of ${elements.rank} by ${width}${typesOf(elements)}`;
  const identity = `${kernel}\n${operation.name}\n${source.text}\n${forms}`;
  let program = programs.get(identity);
  if (!program) {
    program = reduceProgram(`${label}: ${forms}`, form);
    programs.set(identity, program);
  }
  const unit = axis === 'last' ? width : 1;
  const reduced = axis === 'last' ? whole.shape.at(-1)! : whole.shape[0]!;
  const params = [
    ...[first, chunks, chunk / unit, f32Bits(reduced)],
    operation.keys || operation.type === 'u32' ? 0 : f32Bits(operation.start),
    ...wordsOf(layout, width, elements.operands),
    ...(expression.places ? [0, source.shape.at(-1)!] : []),
    ...expression.constants.map(constant => constantWord(kernel, source.inputs, constant)),
    ...[operation.combine, operation.finish].flatMap(each =>
      (each?.constants ?? []).map(constant => constantWord(kernel, {}, constant)),
    ),
  ];
  ensure(params.length <= 60, `${kernel}: too many inputs and numbers`, 'Compute it in parts, by `map`.');
  const size = rows * columns;
  const cost = {
    flops: (1 + expression.operations) * size,
    bytes: out.byteLength + tensors.reduce((sum, tensor) => sum + tensor.byteLength, 0),
  };
  const bound = [out, ...tensors];
  if (axis === 'last') runRows(rec, program, bound, [rows * chunks, columns / width], params, cost);
  else runFlat(rec, program, bound, (columns / width) * chunks, [rows, columns / width, ...params], cost);
}
