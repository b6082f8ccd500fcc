import { type Device, seededRandom, type Tensor, tensorFrom } from '../../engine/index.js';

/** Rows of a projection are bound on their own, at multiples of 256 bytes. */
const ROWS = 64;

/** Rows of the projection onto `count` numbers of outputs that have `hidden`. */
export const projectionRows = (hidden: number, count: number): number =>
  Math.ceil(Math.min(hidden, count) / ROWS) * ROWS;

/** P [rows, hidden]: signs / sqrt(count), or the identity; rows of zeros fill it up. */
export function projectionMatrix(device: Device, hidden: number, count: number): Tensor {
  const exact = count >= hidden;
  const rows = projectionRows(hidden, count);
  const values = new Float32Array(rows * hidden);
  const random = seededRandom(0);
  if (exact) for (let i = 0; i < hidden; i++) values[i * hidden + i] = 1;
  else for (let at = 0; at < values.length; at++) values[at] = (random() < 0.5 ? -1 : 1) / Math.sqrt(rows);
  return tensorFrom(device, values, [rows, hidden], 'projection');
}
