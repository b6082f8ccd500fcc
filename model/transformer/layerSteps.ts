import type { Recorder, Scope, Tensor } from '../../engine/index.js';
import {
  type Activation,
  type AttentionOptions,
  add,
  attention,
  embedding,
  gatedMatmul,
  map,
  matmul,
  padHeads,
  type RopeOptions,
  rope,
  scale,
  scaleRows,
  xielu,
} from '../../kernels/index.js';
import { storedHeadDim } from '../architecture/architecture.js';
import type { Batch } from './batch.js';
import { addRouted, type MlpFeatures, routedFeatures } from './expertSteps.js';
import type { KvCache } from './kvCache.js';
import { LinearLayer } from './linearLayer.js';
import type { Model } from './model.js';
import { normalise } from './norm.js';
import type { LayerWeights } from './weights.js';

/** Tensors of one attention step; in q, keys, values and out, heads have their padded width. */
export interface AttentionStep {
  /** The norm of X. */
  readonly normed: Tensor;
  /** What the norms of queries and keys read; overwritten by RoPE if they have none. */
  readonly projectedQ: Tensor;
  readonly projectedK: Tensor;
  readonly q: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly ranges: Tensor;
  readonly options: AttentionOptions;
  readonly out: Tensor;
  /** A: `out` with heads in the width that o_proj reads. */
  readonly attended: Tensor;
}

/**
 * Runs one layer over a packed batch step by step: A = attention(norm(X)), Y = X + o_proj(A), H = act(gate(Z)) * up(Z) with
 * Z = norm(Y) (norm(X) if branches are parallel), M = down_proj(H), L = Y + M. Here o_proj and down_proj include a norm
 * after the projection and the residual scale. The returned tensors belong to `scope` and have one row per token.
 */
export class LayerSteps {
  readonly #rec: Recorder;

  /** @param weights default: the layer's own. */
  constructor(
    private readonly model: Model,
    private readonly layer: number,
    private readonly batch: Batch,
    private readonly scope: Scope,
    private readonly weights: LayerWeights = model.weights.layers[layer]!,
  ) {
    this.#rec = model.device.recorder;
    model.device.profiler?.count('layers');
  }

  /** A [T, heads * headDim], the input of o_proj, from X [T, hidden]. */
  attended(input: Tensor, cache?: KvCache): Tensor {
    const mixer = this.model.arch.linear[this.layer];
    if (!mixer) return this.attention(input, cache).attended;
    const { scope, weights, batch, layer } = this;
    const normed = this.normed(input, weights.inputNorm, weights.inputNormBias);
    const linear = this.linear.bind(this);
    const { eps } = this.model.arch.norm;
    return new LinearLayer(scope, weights, batch.walked, linear, cache?.states(layer), eps).mixed(
      normed,
      mixer,
    );
  }

  /** A with all intermediate tensors, which the backward pass needs. */
  attention(input: Tensor, cache?: KvCache): AttentionStep {
    const { weights, batch } = this;
    const { arch } = this.model;
    const { heads, kvHeads } = arch;
    const headDim = storedHeadDim(arch);
    const normed = this.normed(input, weights.inputNorm, weights.inputNormBias);
    const projectedQ = this.linear(normed, weights.q, weights.qBias);
    const projectedK = this.linear(normed, weights.k, weights.kBias);
    const early = arch.qkNorm === 'rotated head';
    if (early) this.turn(projectedQ, projectedK, { headDim: arch.headDim });
    const q = this.grown(this.#heads(projectedQ, weights.qNorm, heads));
    const k = this.#heads(projectedK, weights.kNorm, kvHeads);
    const v = this.#heads(this.linear(normed, weights.v, weights.vBias), undefined, kvHeads);
    const { keys, values } = this.#stored(q, k, v, cache, !early);
    const window = arch.attentionWindow[this.layer] ?? null;
    const ranges = arch.vision ? batch.mutualRanges() : batch.ranges(window);
    const options = {
      heads,
      kvHeads,
      headDim,
      scale: arch.attentionScale,
      ...(arch.attentionSoftcap !== null && { softcap: arch.attentionSoftcap }),
      ...(weights.sinkBias && { sinks: weights.sinkBias }),
      mostKeys: Math.min(batch.longest, window ?? batch.longest),
      ownKeys: batch.apart,
    };
    const out = this.scope.tensor([batch.tokens, heads * headDim], 'f32', 'attended');
    attention(this.#rec, q, keys, values, ranges, out, options);
    const attended = this.#outGated(normed, this.widened(out, heads, arch.headDim));
    return { normed, projectedQ, projectedK, q, keys, values, ranges, options, out, attended };
  }

  /** Scales what attention gives by the sigmoids of a projection, where the layer has one. */
  #outGated(normed: Tensor, attended: Tensor): Tensor {
    const { outGate, outGateBias } = this.weights;
    if (!outGate) return attended;
    const gated = this.scope.tensor(attended.shape, 'f32', 'gated');
    map(
      this.#rec,
      'sigmoid(gate) * x',
      { gate: this.linear(normed, outGate, outGateBias), x: attended },
      gated,
    );
    return gated;
  }

  /** o_proj(A), before any norm [T, hidden]. */
  attentionProjected(attended: Tensor): Tensor {
    return this.linear(attended, this.weights.o, this.weights.oBias);
  }

  /** Y = X + o_proj(A) [T, hidden]. */
  postAttention(input: Tensor, attended: Tensor): Tensor {
    const { o, oBias, attentionOutNorm } = this.weights;
    if (this.#addsDirectly(attentionOutNorm)) return this.linear(attended, o, oBias, input);
    return this.#added(input, this.attentionProjected(attended), attentionOutNorm);
  }

  /** H, the input of down_proj, from Y (from X if branches are parallel). */
  mlpFeatures(y: Tensor, input: Tensor): MlpFeatures {
    const { weights } = this;
    const normed = this.normed(this.model.arch.parallel ? input : y, weights.mlpNorm, weights.mlpNormBias);
    if (!weights.router) return { dense: this.#denseFeatures(normed) };
    const logits = this.linear(normed, weights.router, weights.routerBias);
    const { arch } = this.model;
    const routed = routedFeatures(this.scope, normed, logits, weights, arch.experts!, this.#activation);
    const { sharedGate, sharedUp, sharedRouter } = weights;
    if (!sharedGate || !sharedUp || !sharedRouter) return { routed };
    const share = this.linear(normed, sharedRouter, undefined);
    map(this.#rec, 'sigmoid(x)', { x: share }, share);
    const features = this.#gated(normed, sharedGate, sharedUp, {});
    const dense = this.scope.tensor(features.shape, 'f32', 'features of the shared expert');
    scaleRows(this.#rec, features, share.reshape([share.size]), dense);
    return { dense, share, routed };
  }

  /** The activation of gated MLPs, which all experts are. */
  get #activation(): Activation {
    const { activation } = this.model.arch;
    if (activation !== 'xielu') return activation;
    throw new Error('xIELU stands only where there is no gate');
  }

  /** The features of an MLP without experts. */
  #denseFeatures(normed: Tensor): Tensor {
    const { gate, up, gateBias, upBias, alphaP, alphaN } = this.weights;
    const { activation } = this.model.arch;
    if (gate && activation !== 'xielu') return this.#gated(normed, gate, up, { gateBias, upBias });
    const features = this.scope.tensor([normed.rowCount, up.rowCount], 'f32', 'mlp features');
    matmul(this.#rec, normed, up, features, {
      transposeB: true,
      ...(activation !== 'xielu' && { activation }),
      ...(upBias && { bias: upBias }),
    });
    if (alphaP && alphaN) xielu(this.#rec, features, { alphaP, alphaN });
    return features;
  }

  #gated(
    normed: Tensor,
    gate: Tensor,
    up: Tensor,
    { gateBias, upBias }: Partial<Pick<LayerWeights, 'gateBias' | 'upBias'>>,
  ): Tensor {
    const features = this.scope.tensor([normed.rowCount, up.rowCount], 'f32', 'mlp features');
    gatedMatmul(this.#rec, normed, gate, up, features, {
      activation: this.#activation,
      ...(gateBias && { gateBias }),
      ...(upBias && { upBias }),
    });
    return features;
  }

  /** down_proj(H), times ReplaceMe's T if there is one, before any norm [T, hidden]. */
  mlpProjected(features: MlpFeatures): Tensor {
    const projected = this.#projected(features);
    const { mlpMap } = this.weights;
    if (!mlpMap) return projected;
    const mapped = this.scope.tensor(projected.shape, 'f32', 'mapped MLP output');
    matmul(this.#rec, projected, mlpMap, mapped);
    return mapped;
  }

  /** down_proj(H) (+ residual): of the MLP, or of all experts that tokens use. */
  #projected({ dense, routed }: MlpFeatures, residual?: Tensor): Tensor {
    const { weights } = this;
    if (!routed) return this.linear(dense!, weights.down, weights.downBias, residual);
    let sum: Tensor;
    if (dense) sum = this.linear(dense, weights.sharedDown!, undefined, residual);
    else {
      const [tokens] = routed.places.shape;
      sum = this.scope.tensor([tokens!, this.model.arch.hidden], 'f32', 'MLP output');
      if (residual) this.#rec.copy(residual, sum);
      else this.#rec.clear(sum);
    }
    addRouted(this.scope, routed, weights, sum);
    return sum;
  }

  /** M [T, hidden]: what the MLP adds to Y. */
  mlpOutput(features: MlpFeatures): Tensor {
    return this.#branch(this.mlpProjected(features), this.weights.mlpOutNorm);
  }

  /** L = Y + M [T, hidden]. */
  output(y: Tensor, features: MlpFeatures): Tensor {
    const { mlpMap, mlpOutNorm } = this.weights;
    if (!mlpMap && this.#addsDirectly(mlpOutNorm)) return this.#projected(features, y);
    return this.#added(y, this.mlpProjected(features), mlpOutNorm);
  }

  /** Normalises and pads projected queries, keys or values as attention reads them. */
  #heads(projected: Tensor, gain: Tensor | undefined, heads: number): Tensor {
    const { arch } = this.model;
    const rows = arch.qkNorm === 'projection' ? projected.shape : [projected.rowCount * heads, arch.headDim];
    const normed = this.normed(projected.reshape(rows), gain, undefined).reshape(projected.shape);
    return this.widened(normed, heads, storedHeadDim(arch));
  }

  /** Queries, or gradients of them, times the factors of their positions; x itself if all are 1. */
  grown(x: Tensor): Tensor {
    const factors = this.batch.queryFactors(this.model.arch.queryGrowth);
    if (!factors) return x;
    const grown = this.scope.tensor(x.shape, 'f32', x.label);
    scaleRows(this.#rec, x, factors, grown);
    return grown;
  }

  /** Rotates queries and keys in place, or gradients of them back; returns false in a layer without rotation. */
  turn(q: Tensor, k: Tensor, options: Omit<RopeOptions, 'interleaved'>): boolean {
    const { model, batch } = this;
    const kind = model.arch.layerRope[this.layer] ?? null;
    if (kind === null) return false;
    const { table, positions, interleaved } = model.rotations.of(kind, batch);
    rope(this.#rec, q, k, positions, table, { ...options, interleaved });
    return true;
  }

  /** Rotates q and k in place if `turns`. With a cache, appends k and v to it. Returns all keys and values. */
  #stored(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: KvCache | undefined,
    turns: boolean,
  ): { keys: Tensor; values: Tensor } {
    const { model, batch } = this;
    const headDim = storedHeadDim(model.arch);
    const store = cache && { v, ...cache.layer(this.layer), rows: batch.cacheRows };
    if (!(turns && this.turn(q, k, store ? { headDim, store } : { headDim })) && store) {
      const count = batch.tokens / batch.places.length;
      for (const [s, { start, past }] of batch.places.entries()) {
        this.#rec.copy(k.rows(s * count, count), store.keys.rows(start + past, count));
        this.#rec.copy(v.rows(s * count, count), store.values.rows(start + past, count));
      }
    }
    return store ?? { keys: this.#keyed(k), values: this.#keyed(v) };
  }

  /** Gathers keys or values into the row order of the batch's ranges. */
  #keyed(x: Tensor): Tensor {
    const { keyRows } = this.batch;
    if (!keyRows) return x;
    const keyed = this.scope.tensor([keyRows.size, x.columns], 'f32', x.label);
    embedding(this.#rec, x, keyRows, keyed);
    return keyed;
  }

  /** Cuts or zero-pads heads to `headDim` columns; returns x itself if they have that width. */
  widened(x: Tensor, heads: number, headDim: number): Tensor {
    if (x.columns === heads * headDim) return x;
    const widened = this.scope.tensor([x.rowCount, heads * headDim], 'f32', x.label);
    padHeads(this.#rec, x, heads, widened);
    return widened;
  }

  /** The norm of x; x itself without a gain. */
  normed(x: Tensor, gain: Tensor | undefined, bias: Tensor | undefined): Tensor {
    if (!gain) return x;
    const normed = this.scope.tensor(x.shape, 'f32', 'normed');
    normalise(this.#rec, this.model.arch.norm, x, [gain, bias], normed);
    return normed;
  }

  /** Whether the matmul can add the projection straight to the residual stream. */
  #addsDirectly(outNorm: Tensor | undefined): boolean {
    return !outNorm && this.model.arch.residualScale === 1;
  }

  /** Applies the norm after a projection and the residual scale. */
  #branch(projected: Tensor, outNorm: Tensor | undefined): Tensor {
    const { residualScale } = this.model.arch;
    const branch = this.normed(projected, outNorm, undefined);
    if (residualScale !== 1) scale(this.#rec, branch, residualScale);
    return branch;
  }

  #added(residual: Tensor, projected: Tensor, outNorm: Tensor | undefined): Tensor {
    const sum = this.scope.tensor(residual.shape, 'f32', projected.label);
    add(this.#rec, residual, this.#branch(projected, outNorm), sum);
    return sum;
  }

  /** x Wᵀ (+ bias) (+ residual) for W [out, in] as stored. */
  linear(x: Tensor, weight: Tensor, bias: Tensor | undefined, residual?: Tensor): Tensor {
    const output = this.scope.tensor([x.rowCount, weight.shape[0]!], 'f32', weight.label);
    matmul(this.#rec, x, weight, output, {
      transposeB: true,
      ...(bias && { bias }),
      ...(residual && { residual }),
    });
    return output;
  }
}
