import {
  asBytes,
  downloadF32,
  Scope,
  type Tensor,
  tensorFrom,
  tensorFromBytes,
} from '../../../engine/index.js';
import { columnSums, gatedMatmul, matmul } from '../../../kernels/index.js';
import type { BatchTensors, Model } from '../../../model/index.js';
import { rowNormsOf, scaledRows } from '../../activations/rowOperations.js';
import type { Neurons } from './neurons.js';

/**
 * How much each neuron adds to the residual stream over some tokens: sum of w phi² |its column of down_proj|², phi its
 * activation and w = 1/|L|.
 *
 * @param indices batches to look at.
 * @param targets the hidden states L.
 */
export async function neuronEnergies(
  model: Model,
  neurons: Neurons,
  states: BatchTensors,
  targets: { state(index: number, scope: Scope): Promise<Tensor> },
  indices: readonly number[],
): Promise<Float32Array> {
  const { device, arch } = model;
  const rec = device.recorder;
  const { count } = neurons;
  using held = new Scope(device);
  const rowsOf = async (values: Float32Array) =>
    held.own(await tensorFromBytes(device, asBytes(values), [count, arch.hidden], 'f32', 'neurons'));
  const biasOf = (values: Float32Array | undefined) => values && held.own(tensorFrom(device, values));
  const [gate, up] = [neurons.gate && (await rowsOf(neurons.gate)), await rowsOf(neurons.up)];
  const [gateBias, upBias] = [biasOf(neurons.gateBias), biasOf(neurons.upBias)];
  const squares = held.tensor([count], 'f32', 'squares of neurons');
  rec.clear(squares);
  for (const index of indices) {
    using scope = new Scope(device);
    const state = await states.get(index, scope);
    const features = scope.tensor([state.rowCount, count], 'f32', 'neurons');
    const { activation } = arch;
    if (gate) {
      const biases = { ...(gateBias && { gateBias }), ...(upBias && { upBias }) };
      gatedMatmul(rec, state, gate, up, features, { activation, ...biases });
    } else {
      matmul(rec, state, up, features, { transposeB: true, activation, ...(upBias && { bias: upBias }) });
    }
    const norms = await rowNormsOf(await targets.state(index, scope));
    const roots = scope.own(
      tensorFrom(
        device,
        norms.map(norm => (norm > 0 ? norm ** -0.5 : 0)),
      ),
    );
    const weighted = scaledRows(scope, features, roots);
    columnSums(rec, weighted, squares, { accumulate: true, times: weighted });
    await rec.finish();
  }
  const { hidden } = arch;
  return (await downloadF32(squares)).map((sum, f) => {
    const column = neurons.down.subarray(f * hidden, (f + 1) * hidden);
    return sum * column.reduce((total, value) => total + value * value, 0);
  });
}
