import { noJournal, requireExactArithmetic } from '../../engine/index.js';
import type { Model } from '../../model/index.js';
import type { LayerInputs } from '../activations/layerInputs.js';
import type { MethodOptions } from '../options/pruneOptions.js';
import {
  fitProjections,
  type Projection,
  type ProjectionFit,
  type ProjectionFits,
  type ProjectionWeights,
  type RidgeSummary,
  type SumsSource,
} from './fitProjections.js';
import { RefitPass, type RefitTargets } from './refitPass.js';
import type { RidgeStatistics } from './ridgeStatistics.js';

/**
 * Settings of a refit (options/pruneSettings.ts). Without an attention step o_proj keeps its weight, unless
 * `targets.afterAttention` gives it a target.
 */
interface RefitOptions extends Readonly<Omit<MethodOptions, 'alpha' | 'cosine'>> {
  /** Ridges as shares of every feature's own square instead of their mean: better where little is left to explain. */
  readonly scaled?: boolean | undefined;
  /** Receives each projection's statistics before they are solved; `attention`: the fit of o_proj. */
  readonly onStatistics?: (
    projection: Projection,
    statistics: RidgeStatistics,
    attention?: RidgeSummary,
  ) => Promise<void>;
}

export interface LayerRefit extends ProjectionFits {
  /** Mean |L' - L|² / |L|² over ordinary tokens and over attention sinks, L' the new output. */
  readonly tokenResidual: number;
  readonly sinkResidual: number;
}

/**
 * Refits o_proj and down_proj of layer `inputs.depth` by ridge regression towards their present weights: o_proj from the
 * attention's output, then down_proj from the MLP features that follow from the new o_proj. Tokens count 1/|target|. A
 * projection for which no ridge helps on the held-out half keeps its weight. Afterwards `inputs` holds the layer's
 * outputs; the caller declares which layer's inputs they are (`arriveAt`).
 *
 * Source: our own. Kin: GRAIL (a ridge folded into the weight that consumes the features), GPTAQ (arXiv:2504.02692,
 * inputs of the compressed model against targets of the original).
 */
export async function refitLayer(
  inputs: LayerInputs,
  targets: RefitTargets,
  options: RefitOptions = {},
): Promise<LayerRefit> {
  const weights: ProjectionWeights = {};
  using pass = new RefitPass(inputs, targets, weights, options);
  const fit = await projectionFit(inputs, targets, options, weights);
  const fits = await fitProjections({
    ...fit,
    async sumsOf(projection, statistics, attention) {
      await pass.sum(projection, statistics);
      await options.onStatistics?.(projection, statistics, attention);
      return true;
    },
  });
  try {
    return { ...fits!, ...(await pass.advance()) };
  } catch (error) {
    for (const tensor of Object.values(weights)) tensor.dispose();
    throw error;
  }
}

/**
 * Refits a layer from statistics that `onStatistics` received in an earlier run, without running a token.
 *
 * @returns undefined where sums are missing.
 */
export async function refitFromCache(
  model: Model,
  layer: number,
  { attentionStep = 0, ridge, scaled }: RefitOptions,
  cachedSums: SumsSource,
): Promise<ProjectionFits | undefined> {
  return await fitProjections({
    ...{ model, layer, attentionStep, ridge, scaled },
    precision: '48 bits',
    journal: noJournal,
    sumsOf: cachedSums,
    weights: {},
  });
}

/**
 * Sums one projection over a part of the tokens for a later `refitFromCache` and passes the sums to `onStatistics`: o_proj,
 * or down_proj once `cachedSums` has o_proj's sums over all tokens. MLP features follow from the new o_proj, so its sums
 * must be complete first.
 *
 * @returns whether it summed down_proj, the last one.
 */
export async function accumulateRefit(
  inputs: LayerInputs,
  targets: RefitTargets,
  options: RefitOptions,
  cachedSums: SumsSource,
): Promise<boolean> {
  const weights: ProjectionWeights = {};
  let summed: Projection | undefined;
  using pass = new RefitPass(inputs, targets, weights, options);
  const fit = await projectionFit(inputs, targets, options, weights);
  await fitProjections({
    ...fit,
    async sumsOf(projection, statistics, attention) {
      if (projection === 'o' && (await cachedSums(projection, statistics))) return true;
      await pass.sum(projection, statistics);
      await options.onStatistics?.(projection, statistics, attention);
      summed = projection;
      return false;
    },
  });
  return summed === 'down';
}

async function projectionFit(
  { model, depth, options: { journal = noJournal } }: LayerInputs,
  { afterAttention }: RefitTargets,
  { attentionStep = 0, ridge, scaled }: RefitOptions,
  weights: ProjectionWeights,
): Promise<Omit<ProjectionFit, 'sumsOf'>> {
  const step = afterAttention ? 1 : attentionStep;
  // down_proj's sums depend on o_proj's fit, which must come out the same from sums over shards.
  const precision = afterAttention ? 'f32' : '48 bits';
  // Before the sums take their memory: the check needs some too.
  if (step > 0 && precision === '48 bits') await requireExactArithmetic(model.device);
  return { model, layer: depth, attentionStep: step, precision, ridge, scaled, journal, weights };
}
