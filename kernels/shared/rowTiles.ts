import { checkArguments, ensure, type Form, shownKind, type Tensor } from '../../engine/index.js';
import { aTensor } from './checks.js';

/** Consecutive rows of a matrix that fit one storage binding. */
export interface RowTile {
  /** First row of the tile in the matrix. */
  start: number;
  tensor: Tensor;
}

const atLeastOne: Form<number> = (value, place) =>
  typeof value === 'number' && value >= 1 ? undefined : `${place} is ${shownKind(value)}, not 1 or more`;

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** A view can be bound only if it begins at a multiple of this many rows. */
const rowStep = (alignment: number, rowBytes: number): number => alignment / gcd(alignment, rowBytes);

/**
 * Rows of one tile, at most `most`: all rows if one binding holds them, else as many as fit, in multiples of 256 (then a
 * tile starts at a bindable offset for rows of any length) or of the step that this matrix needs.
 *
 * @throws RmError INVALID_ARGUMENT when not even the smallest bindable group of rows fits.
 */
export function tileRows(matrix: Tensor, most = Number.POSITIVE_INFINITY): number {
  const { limits } = matrix.device;
  const rows = matrix.shape[0] ?? 0;
  const rowBytes = Math.max(1, rows ? matrix.byteLength / rows : 0);
  const fitting = Math.min(most, Math.floor(limits.maxStorageBufferBindingSize / rowBytes));
  if (rows <= fitting) return rows;
  if (fitting >= 256) return fitting - (fitting % 256);
  const least = rowStep(limits.minStorageBufferOffsetAlignment, rowBytes);
  // Both are powers of two. With a step of 64, tiles of any other f32 matrix begin at a bindable offset too.
  const step = fitting >= 64 ? Math.max(64, least) : least;
  const count = Math.max(1, Math.floor(fitting / step)) * step;
  ensure(
    count * rowBytes <= limits.maxStorageBufferBindingSize,
    `'${matrix.label}' [${matrix.shape}] ${matrix.dtype} cannot be bound in pieces of ${count} rows`,
    'Use a device with larger storage bindings.',
  );
  return count;
}

/**
 * Splits a matrix into views of at most `most` rows, each of which the device can bind. Kernels use it for matrices that
 * are larger than the largest binding.
 *
 * @throws RmError INVALID_ARGUMENT when not even the smallest bindable group of rows fits.
 */
export function rowTiles(matrix: Tensor, most = Number.POSITIVE_INFINITY): RowTile[] {
  checkArguments('rowTiles', { matrix, most }, { matrix: aTensor, most: atLeastOne });
  const rows = matrix.shape[0] ?? 0;
  const count = tileRows(matrix, most);
  if (rows === 0) return [];
  if (count === rows) return [{ start: 0, tensor: matrix }];
  const tiles: RowTile[] = [];
  for (let start = 0; start < rows; start += count) {
    tiles.push({ start, tensor: matrix.rows(start, Math.min(count, rows - start)) });
  }
  return tiles;
}

/** The most rows that `rowWindow` can cover from any first row; Infinity if one binding holds the matrix. */
export function windowRows(matrix: Tensor): number {
  const { limits } = matrix.device;
  if (matrix.byteLength <= limits.maxStorageBufferBindingSize) return Number.POSITIVE_INFINITY;
  const rowBytes = matrix.byteLength / matrix.shape[0]!;
  const step = rowStep(limits.minStorageBufferOffsetAlignment, rowBytes);
  return Math.max(0, Math.floor(limits.maxStorageBufferBindingSize / rowBytes) - (step - 1));
}

/** Returns the matrix if one binding holds it, else a bindable view that contains these rows. */
export function rowWindow(matrix: Tensor, start: number, count: number): RowTile {
  const { limits } = matrix.device;
  if (matrix.byteLength <= limits.maxStorageBufferBindingSize) return { start: 0, tensor: matrix };
  const rowBytes = matrix.byteLength / matrix.shape[0]!;
  const first = start - (start % rowStep(limits.minStorageBufferOffsetAlignment, rowBytes));
  return { start: first, tensor: matrix.rows(first, start + count - first) };
}
