import {
  asBytes,
  asF32,
  downloadTogether,
  liveSums,
  noJournal,
  Scope,
  type Tensor,
  tensorFromBytes,
} from '../../engine/index.js';
import { matmul } from '../../kernels/index.js';
import { realSequences } from '../calibration/calibrationBatch.js';
import type { FitPass } from '../fits/fitPass.js';
import { hadamard, hasHadamard } from '../fits/hadamard.js';
import { type LayerFit, repairInOrder } from '../fits/repairInOrder.js';
import type { Method } from './method.js';

/** The mean |x| of every channel over each sequence's tokens; x [T, N] on the host. */
function* channelMagnitudes(
  x: Float32Array,
  columns: number,
  sequences: readonly { readonly length: number }[],
  real: readonly { readonly length: number }[],
): Generator<Float64Array> {
  let row = 0;
  for (const [s, { length }] of sequences.entries()) {
    const means = new Float64Array(columns);
    for (let t = row; t < row + real[s]!.length; t++) {
      for (let c = 0; c < columns; c++) means[c]! += Math.abs(x[t * columns + c]!) / real[s]!.length;
    }
    yield means;
    row += length;
  }
}

/**
 * Factor of every channel: the mean over sequences of mean |L_j| / mean |L_i| (as in the authors' code), each mean over
 * the sequence's tokens. Channels are those of the hidden states times `basis`.
 */
async function channelScales(pass: FitPass, basis: Tensor | undefined): Promise<Float32Array> {
  const { device, arch } = pass.model;
  const { hidden } = arch;
  const ratios = { sums: new Float64Array(hidden), weights: 0 };
  const { journal = noJournal } = pass.inputs.options;
  using _tracking = await journal.track('sums', liveSums({}, ratios));
  await pass.forEach(async ({ layerOutput, target }, batch) => {
    using scope = new Scope(device);
    const rotated = (states: Tensor): Tensor => {
      if (!basis) return states;
      const out = scope.tensor(states.shape, 'f32', 'rotated');
      matmul(device.recorder, states, basis, out);
      return out;
    };
    const downloaded = await downloadTogether([rotated(layerOutput), rotated(target)]);
    const [before, after] = downloaded.map(bytes => [
      ...channelMagnitudes(asF32(bytes), hidden, batch.sequences, realSequences(batch)),
    ]) as [Float64Array[], Float64Array[]];
    for (const [s, means] of before.entries()) {
      ratios.weights += batch.weight;
      // A channel that is always 0 stays 0 under any factor.
      for (const [c, mean] of means.entries()) {
        ratios.sums[c]! += batch.weight * (mean > 0 ? after[s]![c]! / mean : 1);
      }
    }
  });
  return Float32Array.from(ratios.sums, sum => sum / ratios.weights);
}

async function fit(pass: FitPass, rotated: boolean): Promise<LayerFit> {
  const { device, arch } = pass.model;
  const n = arch.hidden;
  using scope = new Scope(device);
  const matrix = async (values: Float32Array) =>
    scope.own(await tensorFromBytes(device, asBytes(values), [n, n], 'f32', 'linear patch'));
  const values = rotated ? hadamard(n)! : undefined;
  const basis = values && (await matrix(values));
  const scales = await channelScales(pass, basis);
  let residualMap: Tensor;
  if (basis) {
    residualMap = scope.tensor([n, n], 'f32', 'linear patch');
    const scaled = await matrix(values.map((value, i) => value * scales[i % n]!));
    matmul(device.recorder, scaled, basis, residualMap, { transposeB: true });
  } else {
    const diagonal = new Float32Array(n * n);
    for (const [i, scale] of scales.entries()) diagonal[i * (n + 1)] = scale;
    residualMap = await matrix(diagonal);
  }
  scope.release(residualMap);
  const [least, most] = [Math.min(...scales), Math.max(...scales)];
  const meanScale = scales.reduce((sum, scale) => sum + scale, 0) / n;
  return { weights: { residualMap }, details: { meanScale, leastScale: least, mostScale: most } };
}

const patch = (name: string, summary: string, rotated: boolean): Method => ({
  name,
  summary,
  source: 'Chen et al., LinearPatch, arXiv:2505.24680',
  selection: 'cosine',
  needsCalibration: true,
  inMemoryOnly: 'it multiplies the residual stream by a matrix, which no ordinary model can store',
  refusal: ({ hidden }) =>
    rotated && !hasHadamard(hidden) ? `it can't construct a Hadamard matrix of order ${hidden}` : undefined,
  repair: (context, windows) => repairInOrder(context, windows, pass => fit(pass, rotated)),
});

export const linearPatch: Method = patch(
  'linear-patch',
  'one factor per channel at the cut, between two Hadamard rotations',
  true,
);

export const linearPatchDiagonal: Method = patch(
  'linear-patch-diagonal',
  'one factor per channel at the cut',
  false,
);
