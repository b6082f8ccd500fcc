import { type Device, seededRandom, type Tensor, tensorFrom } from '../../engine/index.js';

/** A projection has a multiple of this many rows: views of its products are bound at multiples of 256 bytes. */
const ROWS = 64;

/** Rows of the projection of outputs [hidden] onto `count` numbers. */
export const projectionRows = (hidden: number, count: number): number =>
  Math.ceil(Math.min(hidden, count) / ROWS) * ROWS;

/** P [rows, hidden]: random signs / sqrt(rows), or the identity where `count` reaches `hidden`, padded by rows of zeros. */
export function projectionMatrix(device: Device, hidden: number, count: number): Tensor {
  const exact = count >= hidden;
  const rows = projectionRows(hidden, count);
  const values = new Float32Array(rows * hidden);
  const random = seededRandom(0);
  if (exact) for (let i = 0; i < hidden; i++) values[i * hidden + i] = 1;
  else for (let at = 0; at < values.length; at++) values[at] = (random() < 0.5 ? -1 : 1) / Math.sqrt(rows);
  return tensorFrom(device, values, [rows, hidden], 'projection');
}
