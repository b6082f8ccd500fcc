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
import { difference, rootsOf } from '../../activations/rowOperations.js';
import type { RunHooks } from '../../run/runHooks.js';
import type { Window } from '../../run/window.js';
import type { FitPass } from '../fitPass.js';
import type { ProjectionWeights } from '../projectionFit.js';
import type { RefitPass } from '../refitPass.js';
import { neuronEnergies, neuronSquares } from './energies.js';
import { layerNeurons, transposed } from './layerNeurons.js';
import { type BestNeurons, bestNeurons, type Neurons, pickedNeurons } from './neurons.js';
import { type ComparedTokens, type LayerNeurons, pickOf, pursueNeurons } from './pursuit.js';
import { refitRows } from './refitRows.js';

/** Tokens, at most, on which neurons are compared. */
export const COMPARED_TOKENS = 16_384;

/** New MLP weights of the layer that stays, and how many neurons each layer gave. */
export interface Transplant {
  /** The caller disposes them. */
  readonly weights: ProjectionWeights;
  readonly perLayer: ReadonlyMap<number, number>;
}

/** How neurons are chosen: by energy, one by one, or by orthogonal matching pursuit, for what they explain together. */
export type NeuronChoice = 'energy' | 'omp';

/**
 * Fills the MLP of the layer that stays with the best neurons of its own and of the removed layers. Each layer's rows of gate
 * and up are refitted, so that they see in the states of the pruned model what they see in the original one; the best neurons
 * are taken, with their columns of down_proj. The norm before the MLP keeps no gain: the rows have it. Source: our own.
 *
 * @param refit the pass over the layer that stays, with its new o_proj.
 */
export async function transplantNeurons(
  { original, targets }: FitPass,
  window: Window,
  refit: RefitPass,
  choice: NeuronChoice,
): Promise<Transplant> {
  const walker = original!;
  const { model, options, batches } = walker;
  const { device, arch } = model;
  const { journal = noJournal } = options;
  using states = new BatchTensors(device, options.placement);
  using _states = await journal.track('MLP inputs', states);
  using wanted = new BatchTensors(device, options.placement);
  using _wanted = await journal.track('wanted', wanted);
  const indices = comparedBatches(
    batches.map(({ sequences, half }) => ({ half, tokens: sequences.flat().length })),
  );
  const ones = new Float32Array(arch.hidden).fill(1);
  await refit.forEachMlpInput(async ({ input, y }, { index, scope }) => {
    states.put(index, scope.release(normalisedPlainly(model, window.layer, input, scope, ones)));
    if (choice === 'energy' || !indices.includes(index)) return;
    wanted.put(index, scope.release(difference(scope, await targets.state(index, scope), y)));
  });
  const refitted = async (layer: number) => {
    await walker.advance(layer);
    return await refitRows(walker, states, await layerNeurons(model, layer));
  };
  const choose = choice === 'omp' ? chooseByPursuit : chooseByEnergy;
  const normed = Boolean(arch.tensorNames.layers[window.layer]!.mlpOutNorm);
  const tokens = { indices, states, wanted, targets, normed };
  const { neurons, layers } = await choose(model, window, tokens, refitted, options);
  const perLayer = new Map<number, number>();
  for (const layer of layers) perLayer.set(layer, (perLayer.get(layer) ?? 0) + 1);
  return { weights: await weightsOf(model, window.layer, neurons), perLayer };
}

/** Neurons in their new place, and the layer of each. */
interface Chosen {
  readonly neurons: Neurons;
  readonly layers: readonly number[];
}

type Choose = (
  model: Model,
  window: Window,
  tokens: ComparedTokens,
  /** A layer's neurons with refitted rows; layers in ascending order. */
  refitted: (layer: number) => Promise<Neurons>,
  hooks: RunHooks,
) => Promise<Chosen>;

const layersOf = (window: Window): number[] =>
  Array.from({ length: window.count + 1 }, (_, i) => window.layer + i);

/** Keeps no more neurons than there is room for while it goes through the layers. */
const chooseByEnergy: Choose = async (model, window, tokens, refitted, { journal = noJournal }) => {
  let best: BestNeurons | undefined;
  for (const layer of layersOf(window)) {
    best = await journal.step(`neurons of layer ${layer}`, async () => {
      const neurons = await refitted(layer);
      const roots = async (index: number, scope: Scope) =>
        rootsOf(scope, await tokens.targets.state(index, scope));
      const squares = await neuronSquares(model, neurons, tokens.states, roots, tokens.indices);
      const energies = neuronEnergies(neurons, squares);
      return bestNeurons(best, { layer, neurons, energies }, model.arch.intermediate);
    });
  }
  return { neurons: best!, layers: best!.ranks.map(({ layer }) => layer) };
};

const chooseByPursuit: Choose = async (model, window, tokens, refitted, hooks) => {
  const { journal = noJournal } = hooks;
  const candidates: LayerNeurons[] = [];
  for (const layer of layersOf(window)) {
    const neurons = await journal.step(`neurons of layer ${layer}`, () => refitted(layer));
    candidates.push({ layer, neurons });
  }
  const places = await pursueNeurons(model, candidates, tokens, model.arch.intermediate, hooks);
  const picks = places.map(place => pickOf(candidates, place));
  return { neurons: pickedNeurons(picks), layers: picks.map(({ layer }) => layer) };
};

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
async function weightsOf(model: Model, layer: number, best: Neurons): Promise<ProjectionWeights> {
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
