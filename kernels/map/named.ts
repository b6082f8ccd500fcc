import { checkArguments, ensure, numeric, type Recorder, type Tensor, whole } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor, floats } from '../shared/checks.js';
import { recordMap } from './map.js';

/** Adds two tensors: out = a + b, each spread over out as in `map`. @throws RmError INVALID_ARGUMENT. */
export function add(rec: Recorder, a: Tensor, b: Tensor, out: Tensor): void {
  checkOperands('add', rec, { a, b });
  recordMap(rec, 'add', 'a + b', { a, b }, out);
}

/** Sets all elements to one value, an integer for u32. @throws RmError INVALID_ARGUMENT. */
export function fill(rec: Recorder, out: Tensor, value: number): void {
  checkArguments('fill', { value }, { value: numeric });
  recordMap(rec, 'fill', 'value', { value }, out);
}

/** Adds in place: x += y. @throws RmError INVALID_ARGUMENT. */
export function addInto(rec: Recorder, x: Tensor, y: Tensor): void {
  checkOperands('addInto', rec, { y });
  recordMap(rec, 'addInto', 'x + y', { x, y }, x);
}

/** Adds a multiple in place, as BLAS axpy: y += factor * x. @throws RmError INVALID_ARGUMENT. */
export function axpy(rec: Recorder, factor: number, x: Tensor, y: Tensor): void {
  checkOperands('axpy', rec, { x });
  checkArguments('axpy', { factor }, { factor: numeric });
  recordMap(rec, 'axpy', 'y + factor * x', { x, y, factor }, y);
}

/** Scales in place: x *= factor. @throws RmError INVALID_ARGUMENT. */
export function scale(rec: Recorder, x: Tensor, factor: number): void {
  checkArguments('scale', { factor }, { factor: numeric });
  recordMap(rec, 'scale', 'factor * x', { x, factor }, x);
}

/** Caps values smoothly, in place: x = cap * tanh(factor * x / cap). @throws RmError INVALID_ARGUMENT. */
export function softcap(rec: Recorder, x: Tensor, cap: number, factor = 1): void {
  checkArguments('softcap', { cap, factor }, { cap: numeric, factor: numeric });
  recordMap(rec, 'softcap', 'cap * tanh(factor * x / cap)', { x, cap, factor }, x);
}

/**
 * Backward pass of `softcap`, in place: turns the gradient of its result `capped` into that of x, by multiplying with
 * factor (1 - (capped / cap)^2). @throws RmError INVALID_ARGUMENT.
 */
export const softcapBackward = (
  rec: Recorder,
  capped: Tensor,
  gradient: Tensor,
  cap: number,
  factor = 1,
): void => {
  const text = 'gradient * factor * (1 - capped / cap) * (1 + capped / cap)';
  recordMap(rec, 'softcapBackward', text, { capped, gradient, cap, factor }, gradient);
};

/**
 * Multiplies each row by its weight: out[t,j] = weights[t] * x[t, first + j]; x [T,N], out [T,M], weights [T], of any float
 * dtype. @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function scaleRows(rec: Recorder, x: Tensor, weights: Tensor, out: Tensor, first = 0): void {
  checkOperands('scaleRows', rec, { x, weights, out });
  checkArguments('scaleRows', { first }, { first: whole() });
  const [rows, columns] = checkMatrix('scaleRows', 'x', x, floats);
  checkTensor('scaleRows', 'weights', weights, [rows], floats);
  checkTensor('scaleRows', 'out', out, [rows, out.columns], floats);
  ensure(
    first + out.columns <= columns,
    `scaleRows: columns ${first} to ${first + out.columns - 1} of '${x.label}' [${x.shape}]`,
    'Stay within the columns of x.',
  );
  const part = { tensor: x, strides: [columns, 1], offset: first };
  recordMap(rec, 'scaleRows', 'weights * x', { x: part, weights: weights.reshape([rows, 1]) }, out);
}

/**
 * Converts floats: target = source, f32, f16 or bf16 of the same size, rounded to nearest even. Either may be larger than a
 * binding. @throws RmError INVALID_ARGUMENT for other dtypes or different sizes.
 */
export function convert(rec: Recorder, source: Tensor, target: Tensor): void {
  checkOperands('convert', rec, { source, target });
  const [from, to] = [source.dtype, target.dtype];
  ensure(
    source.size === target.size &&
      (from === to || (floats.includes(from as never) && floats.includes(to as never))),
    `cannot convert '${source.label}' [${source.shape}] ${from} to '${target.label}' [${target.shape}] ${to}`,
    'Convert between floats of the same size.',
  );
  if (from === to) rec.copy(source, target);
  else recordMap(rec, 'convert', 'x', { x: source.reshape([source.size]) }, target.reshape([target.size]));
}
