import type { Recorder, Tensor } from '../../engine/index.js';
import { matmul } from '../matmul/matmul.js';
import { blockProduct } from './blockProduct.js';

/**
 * Computes out = op(A) B, all f32, where any of them may be larger than a binding; op transposes or does nothing.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function largeProduct(
  rec: Recorder,
  a: Tensor,
  b: Tensor,
  out: Tensor,
  { transposeA = false }: { transposeA?: boolean } = {},
): void {
  const most = out.device.limits.maxStorageBufferBindingSize;
  if ([a, b, out].every(({ byteLength }) => byteLength <= most)) {
    matmul(rec, a, b, out, { transposeA });
    return;
  }
  blockProduct(rec, {
    out: { matrix: out },
    a: { matrix: a, transpose: transposeA },
    b: { matrix: b },
    shape: [out.rowCount, out.columns, b.rowCount],
    op: 'add',
  });
}
