import type { Tensor } from '../../../engine/index.js';
import type { Model } from '../../../model/index.js';
import { valuesOf } from '../../activations/valuesOf.js';
import type { Neurons } from './neurons.js';

/** The transpose of [rows, columns]. */
export function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      out[column * rows + row] = values[row * columns + column]!;
  }
  return out;
}

/**
 * Downloads a layer's neurons as they read normalised states without the norm's gain and bias: those go into the rows and the
 * biases, W (gain * x + bias) + b = (W diag(gain)) x + (W bias + b).
 */
export async function layerNeurons(model: Model, layer: number): Promise<Neurons> {
  const { hidden, intermediate, norm } = model.arch;
  await model.loadLayer(layer);
  const { gate, up, down, gateBias, upBias, mlpNorm, mlpNormBias } = model.weights.layers[layer]!;
  const gains = mlpNorm && (await valuesOf(mlpNorm)).map(value => value + norm.offset);
  const shifts = mlpNormBias && (await valuesOf(mlpNormBias));
  const folded = async (projection: Tensor, bias: Tensor | undefined) => {
    const rows = await valuesOf(projection);
    const constants = bias && (await valuesOf(bias));
    for (let f = 0; f < intermediate; f++) {
      const row = rows.subarray(f * hidden, (f + 1) * hidden);
      if (constants && shifts) constants[f]! += row.reduce((sum, value, c) => sum + value * shifts[c]!, 0);
      if (gains) row.set(row.map((value, c) => value * gains[c]!));
    }
    return { rows, constants };
  };
  const [upper, gated] = [await folded(up, upBias), gate && (await folded(gate, gateBias))];
  return {
    count: intermediate,
    ...(gated && { gate: gated.rows }),
    up: upper.rows,
    down: transposed(await valuesOf(down), hidden, intermediate),
    ...(gated?.constants && { gateBias: gated.constants }),
    ...(upper.constants && { upBias: upper.constants }),
  };
}
