import { downloadF32, type Recorder, RmError, Scope, type Tensor } from '../../engine/index.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';
import { notPositiveDefinite } from './cholesky.js';

const diagonal = flatProgram({
  key: 'diagonal',
  bindings: ['read', 'write'],
  fields: 'columns: u32, firstRow: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;`,
  body: 'out[p.firstRow + i] = a[i * p.columns + p.firstRow + i];',
});

/** Reads the diagonal of A [n,n], which may be larger than a binding; waits for the device. */
export async function downloadDiagonal(rec: Recorder, a: Tensor): Promise<Float32Array> {
  using entries = new Scope(a.device);
  const out = entries.tensor([a.columns]);
  for (const { start, tensor } of rowTiles(a)) {
    const rows = tensor.rowCount;
    runFlat(rec, diagonal, [tensor, out], rows, [a.columns, start], { flops: 0, bytes: 8 * rows });
  }
  return downloadF32(out);
}

/**
 * Computes the scales of an equilibration: powers of two s_i such that s_i^2 (a_ii + shift) is between 1/2 and 2.
 *
 * @throws RmError NOT_FINITE or NOT_POSITIVE_DEFINITE, which names the first element that is not finite or not above 0.
 */
export function equilibration(diagonal: Float32Array, shift: number, label: string): Float32Array {
  return diagonal.map((entry, index) => {
    const value = entry + shift;
    if (!Number.isFinite(value)) {
      throw new RmError(
        'NOT_FINITE',
        `element [${index},${index}] of '${label}' is ${value}`,
        'Look for NaN or infinity in the weights of the model or in its activations.',
      );
    }
    if (value <= 0) throw notPositiveDefinite(label, diagonal.length, { index, value });
    return 2 ** Math.round(-Math.log2(value) / 2);
  });
}
