import { byteSize, ensure, RmError, type Tensor } from '../../engine/index.js';
import { tileRows } from '../shared/rowTiles.js';

/** A tensor read in another order than its own: element i of a dimension is `strides[d] * i` further on. */
export interface Strided {
  readonly tensor: Tensor;
  readonly strides: readonly number[];
  /** First element. */
  readonly offset: number;
}

/** How an invocation reads an operand: its own elements, one for all four, or four that do not lie together. */
export type Reading = 'vector' | 'splat' | 'gather' | 'scalar';

/** Operands over the dimensions of an output, as few as tell them apart. */
export interface Layout {
  /** Extents, the outermost first. */
  readonly extents: readonly number[];
  /** By operand and dimension, in elements. */
  readonly strides: readonly (readonly number[])[];
  readonly offsets: readonly number[];
}

/** Strides by which a tensor is spread over `shape`, as NumPy broadcasts. @throws RmError INVALID_ARGUMENT. */
export function broadcast(kernel: string, name: string, tensor: Tensor, shape: readonly number[]): number[] {
  const own = tensor.shape;
  const strides = new Array<number>(shape.length).fill(0);
  let stride = 1;
  for (let d = own.length - 1, to = shape.length - 1; d >= 0; d--, to--) {
    const extent = own[d]!;
    if (extent !== 1 && extent !== shape[to])
      throw new RmError(
        'INVALID_ARGUMENT',
        `${kernel}: '${name}' is [${own}] ${tensor.dtype}, which does not spread over [${shape}]`,
        'From the last dimension on, its extents are those of the output, or 1.',
      );
    if (extent !== 1) strides[to] = stride;
    stride *= extent;
  }
  return strides;
}

/** Whether both are the same elements, so that a program can bind them once. */
export const isSame = (a: Tensor, b: Tensor): boolean =>
  a === b ||
  (a.buffer === b.buffer &&
    a.byteOffset === b.byteOffset &&
    a.dtype === b.dtype &&
    a.byteLength === b.byteLength);

/** Merges dimensions that every operand runs through as if they were one. */
export function layoutOf(shape: readonly number[], operands: readonly Strided[]): Layout {
  const extents: number[] = [];
  const strides: number[][] = operands.map(() => []);
  for (let d = 0; d < shape.length; d++) {
    const extent = shape[d]!;
    if (extent === 1) continue;
    const last = extents.length - 1;
    const merges =
      last >= 0 && operands.every((operand, k) => strides[k]![last] === operand.strides[d]! * extent);
    if (merges) extents[last]! *= extent;
    else extents.push(extent);
    operands.forEach((operand, k) => {
      if (merges) strides[k]![last] = operand.strides[d]!;
      else strides[k]!.push(operand.strides[d]!);
    });
  }
  if (extents.length === 0) {
    extents.push(1);
    for (const each of strides) each.push(1);
  }
  return { extents, strides, offsets: operands.map(operand => operand.offset) };
}

/** How operand k is read by invocations that compute `width` elements each. */
export function readingOf({ strides, offsets }: Layout, k: number, width: 1 | 4): Reading {
  if (width === 1) return 'scalar';
  const own = strides[k]!;
  const last = own.at(-1)!;
  if (last === 0) return 'splat';
  const whole = last === 1 && offsets[k]! % 4 === 0 && own.slice(0, -1).every(stride => stride % 4 === 0);
  return whole ? 'vector' : 'gather';
}

/** A part of the output that one dispatch computes. */
export interface Piece {
  readonly layout: Layout;
  readonly out: Tensor;
  readonly tensors: readonly Tensor[];
  /** First element of the output. */
  readonly start: number;
}

/** Divides the work along its outermost dimension, where the output or an operand is larger than a binding. */
export function piecesOf(kernel: string, layout: Layout, out: Tensor, tensors: readonly Tensor[]): Piece[] {
  const most = out.device.limits.maxStorageBufferBindingSize;
  const isLarge = (tensor: Tensor) => tensor.byteLength > most;
  if (!isLarge(out) && !tensors.some(isLarge)) return [{ layout, out, tensors, start: 0 }];
  const rows = layout.extents[0]!;
  const outermost = layout.strides.map(strides => strides[0]!);
  const asRows = (tensor: Tensor, stride: number) => {
    ensure(
      stride > 0 && tensor.size === rows * stride,
      `${kernel}: '${tensor.label}' [${tensor.shape}] is larger than a binding and cannot be read in pieces`,
      'Compute it in parts: take views by `rows`.',
    );
    return tensor.reshape([rows, stride]);
  };
  const outRows = out.reshape([rows, out.size / rows]);
  const large = tensors.map((tensor, k) =>
    isLarge(tensor) || isSame(tensor, out) ? asRows(tensor, outermost[k]!) : undefined,
  );
  let step = Math.min(...[outRows, ...large].map(tensor => (tensor ? tileRows(tensor) : rows)));
  // Every tensor that is divided begins at a bindable offset then, whatever its dtype.
  if (step < rows && step >= 128) step -= step % 128;
  const pieces: Piece[] = [];
  for (let first = 0; first < rows; first += step) {
    const count = Math.min(step, rows - first);
    pieces.push({
      layout: {
        ...layout,
        extents: [count, ...layout.extents.slice(1)],
        offsets: layout.offsets.map((offset, k) => offset + (large[k] ? 0 : first * outermost[k]!)),
      },
      out: outRows.rows(first, count),
      tensors: tensors.map((tensor, k) => large[k]?.rows(first, count) ?? tensor),
      start: first * outRows.columns,
    });
  }
  return pieces;
}

/** Bytes that an operand's distinct elements have. */
export const bytesRead = ({ extents, strides }: Layout, k: number, tensor: Tensor): number =>
  extents.reduce((count, extent, d) => (strides[k]![d] === 0 ? count : count * extent), 1) *
  byteSize(tensor.dtype);

/** The shape that all tensors spread over. @throws RmError INVALID_ARGUMENT where there is none. */
export function broadcastShape(kernel: string, tensors: readonly Tensor[]): number[] {
  const rank = Math.max(...tensors.map(({ shape }) => shape.length));
  const shape = new Array<number>(rank).fill(1);
  for (const { shape: own } of tensors) {
    for (let d = 1; d <= own.length; d++) {
      const [extent, known] = [own[own.length - d]!, shape[rank - d]!];
      ensure(
        extent === known || extent === 1 || known === 1,
        `${kernel}: ${tensors.map(tensor => `'${tensor.label}' [${tensor.shape}]`).join(', ')} do not spread over each other`,
        'From the last dimension on, their extents are equal, or 1.',
      );
      if (known === 1) shape[rank - d] = extent;
    }
  }
  return shape;
}
