import {
  checkArguments,
  ensure,
  flag,
  optional,
  type Recorder,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { aTensor, checkMatrix, checkOperands, checkTensor, maybeTensor } from '../shared/checks.js';
import { rowTiles } from '../shared/rowTiles.js';
import { recordReduce } from './reduce.js';

/** Settings of `columnSums`. */
export interface ColumnSumsOptions {
  /** out += instead of = */
  accumulate?: boolean;
  /** Multiplies each element by that of a normalised matrix, (of - shift) * factor; statistics [T,2]: (shift, factor). */
  normalised?: { readonly of: Tensor; readonly statistics: Tensor };
  /** Multiplies each element by that of another matrix: the sums are dot products of columns. */
  times?: Tensor;
}

const sumSettings = settings<ColumnSumsOptions>({
  accumulate: optional(flag),
  normalised: optional(settings({ of: aTensor, statistics: aTensor })),
  times: maybeTensor,
});

/**
 * Sums columns: out[j] (+)= sum of column j; x [T,N] f32, out [N] f32. The same inputs give the same bits.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function columnSums(
  rec: Recorder,
  x: Tensor,
  out: Tensor,
  settingsOfSums: ColumnSumsOptions = {},
): void {
  checkOperands('columnSums', rec, { x, out });
  checkArguments('columnSums', { options: settingsOfSums }, { options: sumSettings });
  const { accumulate = false, normalised, times } = settingsOfSums;
  ensure(!(normalised && times), 'columnSums: both `normalised` and `times` are given', 'Pass one of them.');
  const shape = checkMatrix('columnSums', 'x', x);
  checkTensor('columnSums', 'out', out, [shape[1]]);
  const options = { axis: 'first', accumulate } as const;
  if (shape[0] === 0) {
    if (!accumulate) rec.clear(out);
    return;
  }
  if (normalised) {
    const { of, statistics } = normalised;
    checkTensor('columnSums', 'normalised', of, shape);
    checkTensor('columnSums', 'statistics', statistics, [shape[0], 2]);
    const column = (offset: number) => ({ tensor: statistics, strides: [2, 0], offset });
    const inputs = { x, of, shift: column(0), factor: column(1) };
    recordReduce(
      rec,
      'columnSums normalised',
      'sum',
      { text: 'x * (of - shift) * factor', inputs, shape },
      out,
      options,
    );
  } else if (times) {
    checkTensor('columnSums', 'times', times, shape);
    recordReduce(
      rec,
      'columnSums times',
      'sum',
      { text: 'x * times', inputs: { x, times }, shape },
      out,
      options,
    );
  } else recordReduce(rec, 'columnSums', 'sum', { text: 'x', inputs: { x }, shape }, out, options);
}

/**
 * Dot product of each pair of rows: out[t] = a[t] . b[t]; a, b [T,N], out [T], all f32. a and b may be larger than a binding.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function rowDots(rec: Recorder, a: Tensor, b: Tensor, out: Tensor): void {
  checkOperands('rowDots', rec, { a, b, out });
  const shape = checkMatrix('rowDots', 'a', a);
  checkTensor('rowDots', 'b', b, shape);
  checkTensor('rowDots', 'out', out, [shape[0]]);
  const inputs: Record<string, Tensor> = a === b ? { a } : { a, b };
  recordReduce(rec, 'rowDots', 'sum', { text: a === b ? 'a * a' : 'a * b', inputs, shape }, out);
}

/** Adds a squared norm: total[0] += sum of x^2; x f32 of any shape, total [1] f32. @throws RmError INVALID_ARGUMENT. */
export function addSquaredNorm(rec: Recorder, x: Tensor, total: Tensor): void {
  checkOperands('addSquaredNorm', rec, { x, total });
  checkTensor('addSquaredNorm', 'x', x, x.shape);
  checkTensor('addSquaredNorm', 'total', total, [1]);
  for (const { tensor } of rowTiles(x.reshape([x.size, 1]))) {
    const row = tensor.reshape([1, tensor.size]);
    const source = { text: 'x * x', inputs: { x: row }, shape: row.shape };
    recordReduce(rec, 'addSquaredNorm', 'sum', source, total, { accumulate: true });
  }
}
