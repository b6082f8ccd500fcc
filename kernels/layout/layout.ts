import {
  checkArguments,
  ensure,
  listOf,
  optional,
  type Recorder,
  RmError,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { recordMap } from '../map/map.js';
import type { Strided } from '../map/operands.js';
import { checkOperands, maybeNumber } from '../shared/checks.js';

const transposeForms = { axes: optional(listOf(whole())) };
const sliceForms = {
  options: settings({ start: optional(whole()), axis: maybeNumber, step: optional(whole(1)) }),
};
const concatForms = { options: settings({ axis: maybeNumber }) };

/** Strides of a tensor's dimensions, in elements. */
function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let d = shape.length - 2; d >= 0; d--) strides[d] = strides[d + 1]! * shape[d + 1]!;
  return strides;
}

/** Copies elements in another order; dtypes may differ as in `convert`. */
function copy(rec: Recorder, kernel: string, x: Strided, shape: readonly number[], out: Tensor): void {
  const { tensor } = x;
  if (shape.join() !== out.shape.join() || (tensor.dtype === 'u32') !== (out.dtype === 'u32'))
    throw new RmError(
      'INVALID_ARGUMENT',
      `${kernel}: 'out' is [${out.shape}] ${out.dtype}, [${shape}] of ${tensor.dtype === 'u32' ? 'u32' : 'a float dtype'} is needed`,
      'Pass an output of that shape and dtype.',
    );
  ensure(
    out.size === 0 || tensor.buffer !== out.buffer,
    `${kernel}: '${tensor.label}' and 'out' share a buffer`,
    'Pass another output.',
  );
  recordMap(rec, kernel, 'x', { x }, out);
}

/**
 * Transposes: out's dimension d is x's dimension axes[d]; without `axes` the last two change places. Any rank and dtype;
 * floats may become another float dtype on the way. @throws RmError INVALID_ARGUMENT.
 */
export function transpose(rec: Recorder, x: Tensor, out: Tensor, axes?: readonly number[]): void {
  checkOperands('transpose', rec, { x, out });
  checkArguments('transpose', { axes }, transposeForms);
  const rank = x.shape.length;
  ensure(axes !== undefined || rank >= 2, `transpose: '${x.label}' is [${x.shape}]`, 'Pass a matrix.');
  const order = axes ?? [...Array(rank).keys()].map(d => (d < rank - 2 ? d : 2 * rank - 3 - d));
  ensure(
    order.length === rank && [...Array(rank).keys()].every(d => order.includes(d)),
    `transpose: \`axes\` is [${order}] for [${x.shape}]`,
    `Name every dimension once: ${rank ? `0 to ${rank - 1}` : 'there is none'}.`,
  );
  const strides = stridesOf(x.shape);
  const shape = order.map(d => x.shape[d]!);
  const strided = { tensor: x, strides: order.map(d => strides[d]!), offset: 0 };
  copy(rec, 'transpose', strided, shape, out);
}

/**
 * Copies a part of a dimension: out = the elements start, start + step, ... of dimension `axis` (default: the last), as
 * many as out has there. Any rank and dtype. Rows need no copy: `x.rows(start, count)` is a view.
 *
 * @throws RmError INVALID_ARGUMENT.
 */
export function slice(
  rec: Recorder,
  x: Tensor,
  out: Tensor,
  options: { start?: number; axis?: number; step?: number } = {},
): void {
  checkOperands('slice', rec, { x, out });
  checkArguments('slice', { options }, sliceForms);
  const { start = 0, axis = -1, step = 1 } = options;
  const d = axisOf('slice', x, axis);
  const count = out.shape[d] ?? 0;
  ensure(
    count === 0 || start + (count - 1) * step < x.shape[d]!,
    `slice: ${count} elements from ${start} of dimension ${d} of '${x.label}' [${x.shape}]`,
    'Stay within the dimension.',
  );
  const strides = stridesOf(x.shape);
  const offset = start * strides[d]!;
  strides[d]! *= step;
  const shape = x.shape.map((extent, e) => (e === d ? count : extent));
  copy(rec, 'slice', { tensor: x, strides, offset }, shape, out);
}

/** A dimension by its number, from the end where it is negative. @throws RmError INVALID_ARGUMENT. */
function axisOf(kernel: string, x: Tensor, axis: number): number {
  const rank = x.shape.length;
  const d = axis < 0 ? axis + rank : axis;
  ensure(
    Number.isInteger(d) && d >= 0 && d < rank,
    `${kernel}: \`axis\` is ${axis} for [${x.shape}]`,
    'Pass the number of a dimension; -1 is the last.',
  );
  return d;
}

/** Tensors that one dispatch joins. */
const MOST_JOINED = 7;

/**
 * Joins tensors along a dimension (default: the last): out has their extents there one after the other, and otherwise their
 * shape. Any rank; floats of any dtypes, or all u32. @throws RmError INVALID_ARGUMENT.
 */
export function concat(
  rec: Recorder,
  tensors: readonly Tensor[],
  out: Tensor,
  options: { axis?: number } = {},
): void {
  checkArguments('concat', { options }, concatForms);
  ensure(
    Array.isArray(tensors) && tensors.length > 0,
    `concat: 'tensors' is ${Array.isArray(tensors) ? 'empty' : typeof tensors}`,
    'Pass a list of tensors.',
  );
  const named = Object.fromEntries(tensors.map((tensor, i) => [`tensors[${i}]`, tensor]));
  checkOperands('concat', rec, { ...named, out });
  const d = axisOf('concat', out, options.axis ?? -1);
  const given: readonly Tensor[] = tensors;
  const total = given.reduce((sum, tensor) => sum + (tensor.shape[d] ?? Number.NaN), 0);
  for (const tensor of given) {
    const others = tensor.shape.map((extent, e) => (e === d ? total : extent));
    if (others.join() !== out.shape.join() || (tensor.dtype === 'u32') !== (out.dtype === 'u32'))
      throw new RmError(
        'INVALID_ARGUMENT',
        `concat: '${tensor.label}' [${tensor.shape}] ${tensor.dtype} does not fit '${out.label}' [${out.shape}] ${out.dtype}, whose dimension ${d} should have ${total}`,
        'All but that dimension must be equal, and all float or all u32.',
      );
  }
  const inner = out.shape.slice(d + 1).reduce((a, b) => a * b, 1);
  const outer = out.shape.slice(0, d).reduce((a, b) => a * b, 1);
  if (out.size > 0)
    join(
      rec,
      given.filter(({ size }) => size > 0),
      out.reshape([outer, total * inner]),
    );
}

/** Joins the rows of tensors, seen as matrices with as many rows as `out`. */
function join(rec: Recorder, tensors: readonly Tensor[], out: Tensor): void {
  const [rows = 0, columns = 0] = out.shape;
  let end = 0;
  for (let first = 0; first < tensors.length; first += MOST_JOINED) {
    const inputs: Record<string, Tensor | Strided | number> = {};
    let text = '';
    // What earlier dispatches have joined stays as it is.
    if (first > 0) {
      Object.assign(inputs, { joined: out, end });
      text = 'column < end ? joined : ';
    }
    const part = tensors.slice(first, first + MOST_JOINED);
    for (const [i, tensor] of part.entries()) {
      const own = tensor.size / rows;
      inputs[`x${i}`] = { tensor, strides: [own, 1], offset: -end };
      end += own;
      if (i === part.length - 1) {
        text += `x${i}`;
      } else {
        inputs[`end${i}`] = end;
        text += `column < end${i} ? x${i} : `;
      }
    }
    recordMap(rec, 'concat', text, inputs, out);
  }
  ensure(end === columns, 'concat: columns are left', 'Report this.');
}
