import {
  asBytes,
  LaterDownloads,
  liveSums,
  noJournal,
  Scope,
  Tensor,
  tensorFrom,
  tensorFromBytes,
} from '../../engine/index.js';
import { matmul, meanMagnitudes } from '../../kernels/index.js';
import { type CalibrationBatch, realSequences } from '../calibration/calibrationBatch.js';
import type { FitPass } from '../fits/fitPass.js';
import { hadamard, hasHadamard } from '../fits/hadamard.js';
import { type LayerFit, repairInOrder } from '../fits/repairInOrder.js';
import type { Method } from './method.js';

/** The rows of each sequence's tokens, without padding, for `meanMagnitudes`. */
function rangesOf(batch: CalibrationBatch): Uint32Array<ArrayBuffer> {
  const real = realSequences(batch);
  let row = 0;
  return Uint32Array.from(
    batch.sequences.flatMap(({ length }, s) => {
      const first = row;
      row += length;
      return [first, first + real[s]!.length];
    }),
  );
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
  using later = new LaterDownloads(device);
  using _tracking = await journal.track('sums', later.before(liveSums({}, ratios)));
  await pass.forEach(async ({ layerOutput, target }, batch) => {
    using scope = new Scope(device);
    const count = batch.sequences.length;
    const ranges = scope.own(tensorFrom(device, rangesOf(batch), [count, 2], 'rows of sequences'));
    /** By sequence, then by channel; the caller disposes it. */
    const magnitudes = (states: Tensor): Tensor => {
      const rotated = basis ? scope.tensor(states.shape, 'f32', 'rotated') : states;
      if (basis) matmul(device.recorder, states, basis, rotated);
      const out = Tensor.create(device, [count, hidden], 'f32', 'magnitudes');
      meanMagnitudes(device.recorder, rotated, ranges, out);
      return out;
    };
    await later.readF32([magnitudes(layerOutput), magnitudes(target)], ([before, after]) => {
      ratios.weights += count * batch.weight;
      for (const [at, mean] of before!.entries()) {
        // A channel that is always 0 stays 0 under any factor.
        ratios.sums[at % hidden]! += batch.weight * (mean > 0 ? after![at]! / mean : 1);
      }
    });
  });
  await later.arrive();
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
