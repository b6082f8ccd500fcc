import {
  asBytes,
  noJournal,
  Scope,
  type Tensor,
  tensorFrom,
  tensorFromBytes,
} from '../../../engine/index.js';
import { convert, layerNorm, rmsNorm } from '../../../kernels/index.js';
import { BatchTensors, type Model } from '../../../model/index.js';
import { lastRemoved, type Window } from '../../run/window.js';
import type { FitPass } from '../fitPass.js';
import type { ProjectionWeights } from '../projectionFit.js';
import type { RefitPass } from '../refitPass.js';
import { neuronEnergies } from './energies.js';
import { layerNeurons, transposed } from './layerNeurons.js';
import { type BestNeurons, bestNeurons } from './neurons.js';
import { refitRows } from './refitRows.js';

/** Tokens, at most, on which neurons are compared. */
const COMPARED_TOKENS = 16_384;

/** New MLP weights of the layer that stays, and how many neurons each layer gave. */
export interface Transplant {
  /** The caller disposes them. */
  readonly weights: ProjectionWeights;
  readonly perLayer: ReadonlyMap<number, number>;
}

/**
 * Fills the MLP of the layer that stays with the best neurons of its own and of the removed layers. Each layer's rows of gate
 * and up are refitted, so that they see in the states of the pruned model what they see in the original one; neurons with the
 * most energy in the residual stream are taken, with their columns of down_proj. The norm before the MLP keeps no gain: the
 * rows have it. Source: our own.
 *
 * @param refit the pass over the layer that stays, with its new o_proj.
 */
export async function transplantNeurons(
  { original, targets }: FitPass,
  window: Window,
  refit: RefitPass,
): Promise<Transplant> {
  const walker = original!;
  const { model, options, batches } = walker;
  const { device, arch } = model;
  const { journal = noJournal } = options;
  using states = new BatchTensors(device, options.placement);
  using _tracking = await journal.track('MLP inputs', states);
  const ones = new Float32Array(arch.hidden).fill(1);
  await refit.forEachMlpInput(async (input, { index, scope }) => {
    await states.put(index, scope.release(normalisedPlainly(model, window.layer, input, scope, ones)));
  });
  const compared = comparedBatches(
    batches.map(({ sequences, half }) => ({ half, tokens: sequences.flat().length })),
  );
  let best: BestNeurons | undefined;
  for (let layer = window.layer; layer <= lastRemoved(window); layer++) {
    await walker.advance(layer);
    best = await journal.step(`neurons of layer ${layer}`, async () => {
      const neurons = await refitRows(walker, states, await layerNeurons(model, layer));
      const energies = await neuronEnergies(model, neurons, states, targets, compared);
      return bestNeurons(best, { layer, neurons, energies }, arch.intermediate);
    });
  }
  const perLayer = new Map<number, number>();
  for (const { layer } of best!.ranks) perLayer.set(layer, (perLayer.get(layer) ?? 0) + 1);
  return { weights: await weightsOf(model, window.layer, best!), perLayer };
}

/** x normalised without gain and bias, in `scope`: a copy of x in a family without a norm there. */
function normalisedPlainly(
  { device, arch }: Model,
  layer: number,
  x: Tensor,
  scope: Scope,
  ones: Float32Array,
): Tensor {
  const out = scope.tensor(x.shape, 'f32', 'normalised states');
  const { kind, eps } = arch.norm;
  if (!arch.tensorNames.layers[layer]!.mlpNorm) device.recorder.copy(x, out);
  else {
    const gain = scope.own(tensorFrom(device, ones));
    if (kind === 'layer') layerNorm(device.recorder, x, gain, undefined, out, eps);
    else rmsNorm(device.recorder, x, gain, out, eps);
  }
  return out;
}

/** Every n-th batch of each half, so that all texts have the same share. */
function comparedBatches(batches: readonly { half: number; tokens: number }[]): number[] {
  const all = batches.reduce((sum, { tokens }) => sum + tokens, 0);
  const every = Math.max(1, Math.ceil(all / COMPARED_TOKENS));
  const seen = [0, 0];
  return [...batches.keys()].filter(index => seen[batches[index]!.half]!++ % every === 0);
}

/** The chosen neurons as weights in the number types of the layer that stays. */
async function weightsOf(model: Model, layer: number, best: BestNeurons): Promise<ProjectionWeights> {
  const { device, arch } = model;
  const { hidden, norm } = arch;
  await model.loadLayer(layer);
  const stored = model.weights.layers[layer]!;
  const plain = (size: number, value: number) => new Float32Array(size).fill(value);
  const values: { readonly [Name in keyof ProjectionWeights]?: Float32Array | undefined } = {
    gate: best.gate,
    up: best.up,
    down: transposed(best.down, best.count, hidden),
    gateBias: best.gateBias,
    upBias: best.upBias,
    mlpNorm: stored.mlpNorm && plain(hidden, 1 - norm.offset),
    mlpNormBias: stored.mlpNormBias && plain(hidden, 0),
  };
  using scope = new Scope(device);
  const weights: ProjectionWeights = {};
  for (const [name, list] of Object.entries(values) as [
    keyof ProjectionWeights,
    Float32Array | undefined,
  ][]) {
    if (!list) continue;
    const { shape, dtype } = stored[name]!;
    using wide = await tensorFromBytes(device, asBytes(list), shape, 'f32', name);
    const tensor = scope.tensor(shape, dtype, name);
    convert(device.recorder, wide, tensor);
    weights[name] = tensor;
  }
  scope.releaseAll();
  return weights;
}
