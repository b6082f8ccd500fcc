import { asBytes, type Scope, type Tensor, tensorFrom, tensorFromBytes } from '../../../engine/index.js';
import { type Activation, gatedMatmul, matmul } from '../../../kernels/index.js';
import type { Model } from '../../../model/index.js';
import type { Neurons } from './neurons.js';

/** Features [T, count] of neurons that read normalised states [T, hidden]; the tensor is in `scope`. */
export type NeuronFeatures = (state: Tensor, scope: Scope) => Tensor;

/** Brings neurons to the device, into `held`. */
export async function neuronFeatures(
  { device, arch }: Model,
  { count, ...neurons }: Pick<Neurons, 'count' | 'gate' | 'up' | 'gateBias' | 'upBias'>,
  held: Scope,
): Promise<NeuronFeatures> {
  const rec = device.recorder;
  const rowsOf = async (values: Float32Array) =>
    held.own(await tensorFromBytes(device, asBytes(values), [count, arch.hidden], 'f32', 'neurons'));
  const biasOf = (values: Float32Array | undefined) => values && held.own(tensorFrom(device, values));
  const [gate, up] = [neurons.gate && (await rowsOf(neurons.gate)), await rowsOf(neurons.up)];
  const [gateBias, upBias] = [biasOf(neurons.gateBias), biasOf(neurons.upBias)];
  // Transplants are refused where the activation has weights of its own (xIELU).
  const activation = arch.activation as Activation;
  return (state, scope) => {
    const features = scope.tensor([state.rowCount, count], 'f32', 'neurons');
    if (gate) {
      const biases = { ...(gateBias && { gateBias }), ...(upBias && { upBias }) };
      gatedMatmul(rec, state, gate, up, features, { activation, ...biases });
    } else {
      matmul(rec, state, up, features, { transposeB: true, activation, ...(upBias && { bias: upBias }) });
    }
    return features;
  };
}
