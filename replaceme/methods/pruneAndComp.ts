import {
  type Device,
  LaterDownloads,
  liveSums,
  noJournal,
  Scope,
  type Tensor,
  tensorFrom,
} from '../../engine/index.js';
import { scale } from '../../kernels/index.js';
import type { LayerWeights, Model, WeightChanges } from '../../model/index.js';
import { rowNormsOf } from '../activations/rowOperations.js';
import type { FitPass } from '../fits/fitPass.js';
import { identity } from '../fits/identity.js';
import { repairInOrder } from '../fits/repairInOrder.js';
import { weightedSum } from '../fits/weightedSum.js';
import type { Method } from './method.js';

/** alpha = mean over tokens of |L_j| / |L_i|, i the layer that stays in the model pruned so far. */
async function magnitudeRatio(pass: FitPass): Promise<number> {
  const sums = { norms: 0, weights: 0 };
  const { journal = noJournal } = pass.inputs.options;
  using later = new LaterDownloads(pass.model.device);
  using _tracking = await journal.track('sums', later.before(liveSums({}, sums)));
  await pass.forEach(async ({ layerOutput, target }, { weight }) => {
    await later.readF32([rowNormsOf(layerOutput), rowNormsOf(target)], ([before, after]) => {
      for (const [t, norm] of after!.entries()) sums.norms += (weight * norm) / before![t]!;
      sums.weights += weight * after!.length;
    });
  });
  await later.arrive();
  return sums.norms / sums.weights;
}

/** factor * I [n, n] */
async function scaledIdentity(device: Device, n: number, factor: number): Promise<Tensor> {
  using scope = new Scope(device);
  const matrix = await identity(scope, n, 'scaled identity');
  scale(device.recorder, matrix, factor);
  return scope.release(matrix);
}

/**
 * Weights that scale what each branch adds to the residual stream: the norm after the projection where there is one, since
 * it undoes a scale of the projection, else the projection.
 */
const BRANCHES = [
  { norm: 'attentionOutNorm', projection: ['o', 'oBias'] },
  { norm: 'mlpOutNorm', projection: ['down', 'downBias', 'sharedDown'] },
] as const;

/** factor * (gain + offset) - offset, in the gain's number type. */
function scaledGain(scope: Scope, factor: number, gain: Tensor, offset: number): Tensor {
  if (offset === 0) return weightedSum(scope, [[factor, gain]]);
  using ones = tensorFrom(scope.device, new Float32Array(gain.size).fill(1), gain.shape, 'ones');
  const terms = [
    [factor, gain],
    [(factor - 1) * offset, ones],
  ] as const;
  return weightedSum(scope, terms);
}

/**
 * Folds scales of the residual stream into the weights before them: multiplies a layer's projections and the embedding by
 * all scales that come after them. Every norm, the final one too, undoes a scale of the stream (up to its eps). Where
 * the output head is the embedding, the gain of the final norm is divided by the embedding's factor, so that the logits
 * stay the same.
 *
 * @param scales by the layer after which the stream is multiplied.
 * @param layers changed weights, scaled instead of the model's own; ownership passes to the result.
 */
export function foldScales(
  model: Model,
  scales: ReadonlyMap<number, number>,
  layers: ReadonlyMap<number, Partial<LayerWeights>> = new Map(),
): WeightChanges {
  const { weights, arch, device } = model;
  using replaced = new Scope(device);
  using fresh = new Scope(device);
  const changes = new Map<number, Partial<LayerWeights>>();
  let factor = 1;
  for (let layer = arch.layers - 1; layer >= 0; layer--) {
    factor *= scales.get(layer) ?? 1;
    const changed = { ...layers.get(layer) };
    if (factor !== 1) {
      const own = weights.layers[layer]!;
      for (const { norm, projection } of BRANCHES) {
        for (const key of own[norm] ? [norm] : projection) {
          const tensor = changed[key] ?? own[key];
          if (!tensor) continue;
          if (changed[key]) replaced.own(tensor);
          const scaled =
            key === norm
              ? scaledGain(fresh, factor, tensor, arch.norm.offset)
              : weightedSum(fresh, [[factor, tensor]]);
          Object.assign(changed, { [key]: scaled });
        }
      }
    }
    if (Object.keys(changed).length > 0) changes.set(layer, changed);
  }
  const embedding = weightedSum(fresh, [[factor, weights.embedding]]);
  const tied = arch.tiedEmbeddings && {
    lmHead: embedding,
    finalNorm: scaledGain(fresh, 1 / factor, weights.finalNorm, arch.norm.offset),
    ...(weights.finalNormBias && {
      finalNormBias: weightedSum(fresh, [[1 / factor, weights.finalNormBias]]),
    }),
  };
  fresh.releaseAll();
  return { layers: changes, embedding, ...tied };
}

export const pruneAndComp: Method = {
  name: 'prune-and-comp',
  summary:
    'one factor for what precedes a cut, so that hidden states are as large as after the removed layers',
  source: 'Chen et al., Prune&Comp, arXiv:2507.18212',
  // The paper's measure in one shot; the paper also removes layers one by one and measures again.
  selection: 'block-influence',
  needsCalibration: true,
  refusal: ({ family, tensorNames, vision }) =>
    vision || tensorNames.layers.some(({ inputNorm, mlpNorm }) => !inputNorm || !mlpNorm)
      ? `a scale of the residual stream of ${family} models can't be folded: the stream is that of images, or read without a norm`
      : undefined,
  wholeModel: true,
  changes: 'all before',
  async repair(context, windows) {
    const { model } = context;
    const scales = new Map<number, number>();
    const { changes, ...rest } = await repairInOrder(context, windows, async (pass, { layer }) => {
      const ratio = await magnitudeRatio(pass);
      scales.set(layer, ratio);
      const residualMap = await scaledIdentity(model.device, model.arch.hidden, ratio);
      return { weights: { residualMap }, details: { scale: ratio } };
    });
    const layers = new Map(
      [...(changes.layers ?? [])].map(([layer, { residualMap, ...weights }]) => {
        residualMap?.dispose();
        return [layer, weights];
      }),
    );
    return { changes: foldScales(model, scales, layers), ...rest };
  },
};
