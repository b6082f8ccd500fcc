import type { Recorder, Scope, Tensor } from '../../engine/index.js';
import {
  type AttentionOptions,
  add,
  attention,
  embedding,
  gatedMatmul,
  matmul,
  padHeads,
  rope,
  scale,
  scaleRows,
  topExperts,
} from '../../kernels/index.js';
import { storedHeadDim } from '../architecture/architecture.js';
import type { Batch } from './batch.js';
import type { KvCache } from './kvCache.js';
import type { Model } from './model.js';
import { normalise } from './norm.js';
import type { LayerWeights } from './weights.js';

/** An attention layer's tensors; heads as wide as they are stored in q, keys, values and out. */
export interface AttentionStep {
  /** The norm of X. */
  readonly normed: Tensor;
  /** What q_proj and k_proj give, to be read only where a norm of queries and keys follows: it is turned in place else. */
  readonly projectedQ: Tensor;
  readonly projectedK: Tensor;
  readonly q: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly ranges: Tensor;
  readonly options: AttentionOptions;
  readonly out: Tensor;
  /** A: `out` with heads as wide as o_proj reads them. */
  readonly attended: Tensor;
}

/**
 * One layer over a packed batch, step by step: A = attention(norm(X)), Y = X + what o_proj makes of A, H = act(gate) *
 * up of norm(Y) (of norm(X) where branches are parallel), M = what down_proj makes of H, L = Y + M. Norms after a
 * projection and the residual scale are part of what it makes. What the steps return lives in `scope`, with one row per
 * token.
 */
export class LayerSteps {
  readonly #rec: Recorder;

  /** @param weights the layer's own, or others that take their place. */
  constructor(
    private readonly model: Model,
    private readonly layer: number,
    private readonly batch: Batch,
    private readonly scope: Scope,
    private readonly weights: LayerWeights = model.weights.layers[layer]!,
  ) {
    this.#rec = model.device.recorder;
  }

  /** A [T, heads * headDim] of X [T, hidden]: what enters o_proj. */
  attended(input: Tensor, cache?: KvCache): Tensor {
    return this.attention(input, cache).attended;
  }

  /** All that A is made of: the backward pass needs it again. */
  attention(input: Tensor, cache?: KvCache): AttentionStep {
    const { weights, batch } = this;
    const { arch } = this.model;
    const { heads, kvHeads } = arch;
    const headDim = storedHeadDim(arch);
    const normed = this.normed(input, weights.inputNorm, weights.inputNormBias);
    const projectedQ = this.linear(normed, weights.q, weights.qBias);
    const projectedK = this.linear(normed, weights.k, weights.kBias);
    const q = this.#heads(projectedQ, weights.qNorm, heads);
    const k = this.#heads(projectedK, weights.kNorm, kvHeads);
    const v = this.#heads(this.linear(normed, weights.v, weights.vBias), undefined, kvHeads);
    const { keys, values } = this.#rotated(q, k, v, cache);
    const window = arch.attentionWindow[this.layer] ?? null;
    const ranges = arch.vision ? batch.mutualRanges() : batch.ranges(window);
    const options = {
      heads,
      kvHeads,
      headDim,
      scale: arch.attentionScale,
      ...(arch.attentionSoftcap !== null && { softcap: arch.attentionSoftcap }),
      mostKeys: Math.min(batch.longest, window ?? batch.longest),
    };
    const out = this.scope.tensor([batch.tokens, heads * headDim], 'f32', 'attended');
    attention(this.#rec, q, keys, values, ranges, out, options);
    const attended = this.widened(out, heads, arch.headDim);
    return { normed, projectedQ, projectedK, q, keys, values, ranges, options, out, attended };
  }

  /** Y = X + what o_proj makes of A [T, hidden]. */
  postAttention(input: Tensor, attended: Tensor): Tensor {
    const { o, oBias, attentionOutNorm } = this.weights;
    if (this.#addsDirectly(attentionOutNorm)) return this.linear(attended, o, oBias, input);
    return this.#added(input, this.linear(attended, o, oBias), attentionOutNorm);
  }

  /** H [T, intermediate] of Y, and of X where the layer's branches are parallel: what enters down_proj. */
  mlpFeatures(y: Tensor, input: Tensor): Tensor {
    const { weights, model } = this;
    const { parallel, intermediate, activation } = model.arch;
    const normed = this.normed(parallel ? input : y, weights.mlpNorm, weights.mlpNormBias);
    const features = this.scope.tensor([y.rowCount, intermediate], 'f32', 'mlp features');
    if (weights.gate) {
      gatedMatmul(this.#rec, normed, weights.gate, weights.up, features, {
        activation,
        ...(weights.gateBias && { gateBias: weights.gateBias }),
        ...(weights.upBias && { upBias: weights.upBias }),
      });
    } else {
      matmul(this.#rec, normed, weights.up, features, {
        transposeB: true,
        activation,
        ...(weights.upBias && { bias: weights.upBias }),
      });
    }
    return this.#routed(normed, features);
  }

  /** What down_proj gives of H, through T where there is one, before any norm [T, hidden]. */
  mlpProjected(features: Tensor): Tensor {
    const { down, downBias, mlpMap } = this.weights;
    const projected = this.linear(features, down, downBias);
    if (!mlpMap) return projected;
    const mapped = this.scope.tensor(projected.shape, 'f32', 'mapped MLP output');
    matmul(this.#rec, projected, mlpMap, mapped);
    return mapped;
  }

  /** M [T, hidden]: what down_proj makes of H, and what the layer adds to Y. */
  mlpOutput(features: Tensor): Tensor {
    return this.#branch(this.mlpProjected(features), this.weights.mlpOutNorm);
  }

  /** L = Y + M [T, hidden]. */
  output(y: Tensor, features: Tensor): Tensor {
    const { down, downBias, mlpMap, mlpOutNorm } = this.weights;
    if (!mlpMap && this.#addsDirectly(mlpOutNorm)) return this.linear(features, down, downBias, y);
    return this.#added(y, this.mlpProjected(features), mlpOutNorm);
  }

  /** Features of experts by how much each token uses them; all alike without a router. */
  #routed(normed: Tensor, features: Tensor): Tensor {
    const { experts } = this.model.arch;
    const { router } = this.weights;
    if (!experts || !router) return features;
    const logits = this.linear(normed, router, undefined);
    const weights = this.scope.tensor(logits.shape, 'f32', 'experts');
    topExperts(this.#rec, logits, experts.perToken, weights);
    const routed = this.scope.tensor(features.shape, 'f32', 'mlp features');
    const rows = [logits.size, features.size / logits.size];
    scaleRows(this.#rec, features.reshape(rows), weights.reshape([logits.size]), routed.reshape(rows));
    return routed;
  }

  /** Projected queries, keys or values, as attention reads them. */
  #heads(projected: Tensor, gain: Tensor | undefined, heads: number): Tensor {
    const { arch } = this.model;
    const rows = arch.qkNorm === 'head' ? [projected.rowCount * heads, arch.headDim] : projected.shape;
    const normed = this.normed(projected.reshape(rows), gain, undefined).reshape(projected.shape);
    return this.widened(normed, heads, storedHeadDim(arch));
  }

  /** Rotates q and k in place, or puts rotated k, and v, behind what the cache holds; returns all keys and values. */
  #rotated(q: Tensor, k: Tensor, v: Tensor, cache: KvCache | undefined): { keys: Tensor; values: Tensor } {
    const { model, batch } = this;
    const headDim = storedHeadDim(model.arch);
    const kind = model.arch.layerRope[this.layer] ?? null;
    const store = cache && { v, ...cache.layer(this.layer), start: cache.length };
    if (kind !== null) {
      const { table, positions } = model.rotations.of(kind, batch);
      rope(this.#rec, q, k, positions, table, store ? { headDim, store } : { headDim });
    } else if (store) {
      this.#rec.copy(k, store.keys.rows(store.start, batch.tokens));
      this.#rec.copy(v, store.values.rows(store.start, batch.tokens));
    }
    return store ?? { keys: this.#keyed(k), values: this.#keyed(v) };
  }

  /** Keys or values as the batch's ranges count them. */
  #keyed(x: Tensor): Tensor {
    const { keyRows } = this.batch;
    if (!keyRows) return x;
    const keyed = this.scope.tensor([keyRows.size, x.columns], 'f32', x.label);
    embedding(this.#rec, x, keyRows, keyed);
    return keyed;
  }

  /** Heads of another number of columns, cut or continued by zeros; x itself where they have it. */
  widened(x: Tensor, heads: number, headDim: number): Tensor {
    if (x.columns === heads * headDim) return x;
    const widened = this.scope.tensor([x.rowCount, heads * headDim], 'f32', x.label);
    padHeads(this.#rec, x, heads, widened);
    return widened;
  }

  /** The norm of x; x itself where there is none. */
  normed(x: Tensor, gain: Tensor | undefined, bias: Tensor | undefined): Tensor {
    if (!gain) return x;
    const normed = this.scope.tensor(x.shape, 'f32', 'normed');
    normalise(this.#rec, this.model.arch.norm, x, [gain, bias], normed);
    return normed;
  }

  /** Whether what a projection gives is added to the residual stream as it is, so that the product can do it. */
  #addsDirectly(outNorm: Tensor | undefined): boolean {
    return !outNorm && this.model.arch.residualScale === 1;
  }

  /** What is added to the residual stream of what a projection gives. */
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
