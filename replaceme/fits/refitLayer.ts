import { noJournal, requireExactArithmetic } from '../../engine/index.js';
import type { Model } from '../../model/index.js';
import type { LayerInputs } from '../activations/layerInputs.js';
import type { MethodOptions } from '../options/pruneOptions.js';
import { fitProjections, type ProjectionFits } from './fitProjections.js';
import type {
  ProjectionFit,
  ProjectionSums,
  ProjectionWeights,
  SumsRequest,
  SumsSource,
} from './projectionFit.js';
import { RefitPass, type RefitTargets } from './refitPass.js';

/**
 * Settings of a refit (options/pruneSettings.ts). Without an attention step o_proj keeps its weight, unless
 * `targets.afterAttention` gives it a target.
 */
interface RefitOptions extends Readonly<Omit<MethodOptions, 'alpha' | 'cosine'>> {
  /** Ridges as shares of every feature's own square instead of their mean: better where little is left to explain. */
  readonly scaled?: boolean | undefined;
  /** Only o_proj is fitted. */
  readonly keepsMlp?: boolean | undefined;
  /** Receives a projection's statistics before they are solved. */
  readonly onStatistics?: (request: SumsRequest, statistics: ProjectionSums) => Promise<void>;
  /** Makes further new weights of the MLP after the fit of o_proj; down_proj is then fitted from these. */
  readonly newMlp?: (pass: RefitPass) => Promise<ProjectionWeights>;
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
    newMlp: options.newMlp && (() => options.newMlp!(pass)),
    async sumsOf(request, statistics) {
      await pass.sum(request.projection, statistics);
      await options.onStatistics?.(request, statistics);
      return true;
    },
  });
  try {
    return { ...fits!, ...(await pass.advance()) };
  } catch (error) {
    for (const tensor of Object.values(weights)) tensor?.dispose();
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
 * Sums over a part of the tokens what a later `refitFromCache` needs first of what `cachedSums` lacks, and passes it to
 * `onStatistics`: o_proj, then down_proj, behind a norm a round of them. MLP features follow from the new o_proj, and the
 * norms of a round from the round before, so those sums must be complete over all tokens first.
 *
 * @returns whether that were the last sums.
 */
export async function accumulateRefit(
  inputs: LayerInputs,
  targets: RefitTargets,
  options: RefitOptions,
  cachedSums: SumsSource,
): Promise<boolean> {
  const weights: ProjectionWeights = {};
  let isLast = false;
  const isNormed = Boolean(inputs.model.arch.tensorNames.layers[inputs.depth]!.mlpOutNorm);
  using pass = new RefitPass(inputs, targets, weights, options);
  const fit = await projectionFit(inputs, targets, options, weights);
  await fitProjections({
    ...fit,
    async sumsOf(request, statistics) {
      if (await cachedSums(request, statistics)) return true;
      await pass.sum(request.projection, statistics);
      await options.onStatistics?.(request, statistics);
      // How many rounds there are depends on their sums.
      isLast = request.projection === 'down' && !isNormed;
      return false;
    },
  });
  return isLast;
}

async function projectionFit(
  { model, depth, options: { journal = noJournal } }: LayerInputs,
  { afterAttention }: RefitTargets,
  { attentionStep = 0, ridge, scaled, keepsMlp }: RefitOptions,
  weights: ProjectionWeights,
): Promise<Omit<ProjectionFit, 'sumsOf'>> {
  const step = afterAttention ? 1 : attentionStep;
  // down_proj's sums depend on o_proj's fit, which must come out the same from sums over shards.
  const precision = afterAttention ? 'f32' : '48 bits';
  // Before the sums take their memory: the check needs some too.
  if (step > 0 && precision === '48 bits') await requireExactArithmetic(model.device);
  return { model, layer: depth, attentionStep: step, precision, ridge, scaled, keepsMlp, journal, weights };
}
