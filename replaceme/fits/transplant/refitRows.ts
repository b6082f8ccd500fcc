import {
  asBytes,
  downloadF32,
  noJournal,
  Scope,
  type Tensor,
  tensorFrom,
  tensorFromBytes,
} from '../../../engine/index.js';
import { addTransposed } from '../../../kernels/index.js';
import { type BatchTensors, LayerSteps } from '../../../model/index.js';
import type { LayerInputs } from '../../activations/layerInputs.js';
import { difference, equalRoots } from '../../activations/rowOperations.js';
import { forEachBatch } from '../../calibration/forEachBatch.js';
import { RidgeStatistics } from '../ridgeStatistics.js';
import type { Neurons } from './neurons.js';

/** Ridges to try, as shares of each feature's own square. */
const RIDGES = [1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001];

type Part = 'gate' | 'up';
const biasOf = { gate: 'gateBias', up: 'upBias' } as const;

/**
 * Refits rows of gate and up so that a layer's neurons, fed with other states, see what they see in the original model:
 * argmin |A V - z|² for A the `states`, z the pre-activations of the original layer whose inputs are `original`, by ridge
 * regression towards the rows that there are. Rows that no ridge improves on the held-out half stay.
 *
 * @param states normalised states [T, hidden] by batch, without the gain of a norm.
 * @param neurons the layer's own, which read such states.
 */
export async function refitRows(
  original: LayerInputs,
  states: BatchTensors,
  neurons: Neurons,
): Promise<Neurons> {
  const { model, depth, batches, options } = original;
  const { device, arch } = model;
  const { journal = noJournal } = options;
  using scope = new Scope(device);
  const shape = [arch.intermediate, arch.hidden];
  const fits: { part: Part; rows: Tensor; bias: Tensor | undefined; statistics: RidgeStatistics }[] = [];
  using _sums = {
    [Symbol.dispose]() {
      for (const { statistics } of fits) statistics[Symbol.dispose]();
    },
  };
  for (const part of ['gate', 'up'] as const) {
    const [values, bias] = [neurons[part], neurons[biasOf[part]]];
    if (!values) continue;
    fits.push({
      part,
      rows: scope.own(await tensorFromBytes(device, asBytes(values), shape, 'f32', part)),
      bias: bias && scope.own(tensorFrom(device, bias)),
      statistics: new RidgeStatistics(device, arch.hidden, arch.intermediate),
    });
  }
  const tracked: Disposable[] = [];
  for (const { part, statistics } of fits) tracked.push(await journal.track(`sums of ${part}`, statistics));
  await model.loadLayer(depth);
  const weights = model.weights.layers[depth]!;
  const name = `pre-activations of layer ${depth}`;
  await forEachBatch(device, options, name, batches, async ({ index, batch, opened, scope }) => {
    const steps = new LayerSteps(model, depth, opened, scope);
    const input = await original.input(index, scope);
    const read = arch.parallel ? input : steps.postAttention(input, steps.attended(input));
    const normed = steps.normed(read, weights.mlpNorm, weights.mlpNormBias);
    const state = await states.get(index, scope);
    const counted = equalRoots(scope, state.rowCount, batch.weight);
    for (const { part, rows, bias, statistics } of fits) {
      const seen = steps.linear(normed, weights[part]!, weights[biasOf[part]]);
      await statistics.add(
        batch.half,
        state,
        difference(scope, seen, steps.linear(state, rows, bias)),
        counted,
      );
    }
  });
  for (const tracking of tracked) tracking[Symbol.dispose]();
  const found: { -readonly [P in Part]?: Float32Array } = {};
  for (const { part, rows, statistics } of fits) {
    using _section = device.section('solve');
    const solution = await statistics.solve(undefined, { scaled: true, ridges: RIDGES });
    if (!solution) continue;
    using delta = solution.delta;
    addTransposed(device.recorder, delta, 1, rows);
    found[part] = await downloadF32(rows);
  }
  return { ...neurons, ...found };
}
