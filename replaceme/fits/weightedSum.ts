import { Scope, type Tensor } from '../../engine/index.js';
import { axpy, convert, rowTiles, scale } from '../../kernels/index.js';

/** Elements of the f32 tiles in which weights are summed: 64 MiB. */
const TILE_ELEMENTS = 16 << 20;

/**
 * Sum of factor * tensor over weights of one shape and dtype, in that dtype: computed in f32 and rounded once, new in
 * `scope`. Weights may be larger than a binding.
 */
export function weightedSum(scope: Scope, terms: readonly (readonly [factor: number, Tensor])[]): Tensor {
  const first = terms[0]![1];
  const { recorder } = scope.device;
  const sum = scope.tensor(first.shape, first.dtype, first.label);
  const mostRows = Math.max(1, Math.floor((TILE_ELEMENTS * (first.shape[0] ?? 1)) / first.size));
  for (const { start, tensor } of rowTiles(first, mostRows)) {
    using tile = new Scope(scope.device);
    const total = tile.tensor(tensor.shape, 'f32', 'weighted sum');
    const wide = tile.tensor(tensor.shape, 'f32', 'weights');
    for (const [i, [factor, weights]] of terms.entries()) {
      convert(recorder, weights.rows(start, tensor.shape[0]!), i === 0 ? total : wide);
      if (i === 0) scale(recorder, total, factor);
      else axpy(recorder, factor, wide, total);
    }
    convert(recorder, total, sum.rows(start, tensor.shape[0]!));
  }
  return sum;
}
