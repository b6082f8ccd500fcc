import {
  checkArguments,
  ensure,
  f32Bits,
  type Recorder,
  Scope,
  settings,
  type Tensor,
} from '../../engine/index.js';
import { type AttentionOptions, attentionSettings, checkHeads } from '../attention/attention.js';
import { aTensor, checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { tilesPerDispatch } from '../shared/dispatchTime.js';
import { byKeys, KEYS_OF_TILE } from './byKeys.js';
import { byQueries, ROWS_OF_TILE } from './byQueries.js';

/** The inputs and the result of `attention`. */
export interface AttentionTensors {
  q: Tensor;
  k: Tensor;
  v: Tensor;
  ranges: Tensor;
  out: Tensor;
}

/** The gradients that `attentionBackward` writes, shaped like q, k and v. */
export interface AttentionGradients {
  q: Tensor;
  k: Tensor;
  v: Tensor;
}

const theGradients = settings<AttentionGradients>({ q: aTensor, k: aTensor, v: aTensor });
const theTensors = settings<AttentionTensors>({
  q: aTensor,
  k: aTensor,
  v: aTensor,
  ranges: aTensor,
  out: aTensor,
});

/** The programs' workgroups have SIDE x SIDE invocations. */
const SIDE = 8;

/**
 * Backward pass of `attention`: writes the gradients of q, k and v; gradient [Tq, heads*headDim] f32 is that of the
 * output. The same inputs give the same bits.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function attentionBackward(
  rec: Recorder,
  tensors: AttentionTensors,
  gradient: Tensor,
  gradients: AttentionGradients,
  options: Omit<AttentionOptions, 'variant'>,
): void {
  const kernel = 'attentionBackward';
  checkOperands(kernel, rec, { gradient });
  checkArguments(
    kernel,
    { tensors, gradients, options },
    { tensors: theTensors, gradients: theGradients, options: attentionSettings },
  );
  const { q, k, v, ranges, out } = tensors;
  const { heads, kvHeads, headDim, scale, softcap, mostKeys } = options;
  checkHeads(kernel, options);
  ensure(!options.sinks, `${kernel}: heads with sinks have no backward pass`, 'Leave `sinks` out.');
  const [queries] = checkMatrix(kernel, 'q', q);
  const [keys] = checkMatrix(kernel, 'k', k);
  const [columns, kvColumns] = [heads * headDim, kvHeads * headDim];
  for (const [name, tensor] of Object.entries({ q, out, gradient, 'gradient of q': gradients.q }))
    checkTensor(kernel, name, tensor, [queries, columns]);
  for (const [name, tensor] of Object.entries({
    k,
    v,
    'gradient of k': gradients.k,
    'gradient of v': gradients.v,
  }))
    checkTensor(kernel, name, tensor, [keys, kvColumns]);
  checkTensor(kernel, 'ranges', ranges, [queries, 2], ['u32']);
  const { device } = q;
  const group = heads / kvHeads;
  using scope = new Scope(device);
  /** For every query and head: logarithm of the sum of exponentials, and D = gradient . out. */
  const statistics = scope.tensor([queries * heads, 2], 'f32', 'attention statistics');
  const width = headDim / 4;
  const products = queries * Math.min(keys, mostKeys ?? keys) * heads * headDim;
  const record = (program: ReturnType<typeof byQueries>, tensors: Tensor[], tiles: number, flops: number) => {
    const step = tilesPerDispatch(tiles, flops, device);
    for (let first = 0; first < tiles; first += step) {
      const count = Math.min(step, tiles - first);
      rec.dispatch({
        program,
        tensors,
        params: [queries, keys, heads, kvHeads, width, SIDE, f32Bits(scale), first, f32Bits(softcap ?? 0)],
        grid: [count, kvHeads],
        flops: (flops * count) / tiles,
        bytes: (4 * tensors.reduce((sum, tensor) => sum + tensor.size, 0) * count) / tiles,
      });
    }
  };
  // Half of all pairs, since ranges are causal; four products per pair in each program.
  record(
    byQueries(headDim, softcap !== undefined),
    [q, k, v, ranges, out, gradient, gradients.q, statistics],
    Math.ceil((queries * group) / ROWS_OF_TILE),
    4 * products,
  );
  record(
    byKeys(headDim, softcap !== undefined),
    [q, k, v, ranges, gradient, statistics, gradients.k, gradients.v],
    Math.ceil(keys / KEYS_OF_TILE),
    4 * products,
  );
}
