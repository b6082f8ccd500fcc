import { downloadF32, OneAhead, Scope, type Tensor } from '../../../engine/index.js';
import { columnSums } from '../../../kernels/index.js';
import type { BatchTensors, Model } from '../../../model/index.js';
import { scaledRows } from '../../activations/rowOperations.js';
import { neuronFeatures } from './neuronFeatures.js';
import type { Neurons } from './neurons.js';

/**
 * Sums of w phi² over some tokens, phi a neuron's activation and w = 1/|L|.
 *
 * @param indices batches to look at.
 * @param rootsOf sqrt(w) of the tokens of a batch.
 */
export async function neuronSquares(
  model: Model,
  neurons: Neurons,
  states: BatchTensors,
  rootsOf: (index: number, scope: Scope) => Promise<Tensor>,
  indices: readonly number[],
): Promise<Float32Array> {
  const { device } = model;
  const rec = device.recorder;
  using held = new Scope(device);
  const features = await neuronFeatures(model, neurons, held);
  const squares = held.tensor([neurons.count], 'f32', 'squares of neurons');
  rec.clear(squares);
  const ahead = new OneAhead(device);
  for (const index of indices) {
    using scope = new Scope(device);
    const roots = await rootsOf(index, scope);
    const weighted = scaledRows(scope, features(await states.get(index, scope), scope), roots);
    columnSums(rec, weighted, squares, { accumulate: true, times: weighted });
    await ahead.turn();
  }
  return await downloadF32(squares);
}

/** How much each neuron adds to the residual stream: its squares times |its column of down_proj|². */
export const neuronEnergies = ({ down, count }: Neurons, squares: Float32Array): Float32Array => {
  const hidden = down.length / count;
  return squares.map((sum, f) => {
    const column = down.subarray(f * hidden, (f + 1) * hidden);
    return sum * column.reduce((total, value) => total + value * value, 0);
  });
};
