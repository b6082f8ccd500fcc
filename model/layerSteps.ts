import type { Recorder, Scope, Tensor } from '../engine/index.js';
import { attention } from '../kernels/attention.js';
import { embedding } from '../kernels/embedding.js';
import { gatedMatmul } from '../kernels/gatedMatmul.js';
import { matmul } from '../kernels/matmul.js';
import { rmsNorm } from '../kernels/rmsNorm.js';
import { rope } from '../kernels/rope.js';
import type { Batch } from './batch.js';
import type { KvCache } from './kvCache.js';
import type { LayerWeights, Model } from './model.js';

/**
 * One layer over a packed batch, step by step: A = attention(norm(X)), Y = X + A W_oᵀ, H = act(gate) * up of norm(Y),
 * M = H W_downᵀ, L = Y + M. What the steps return lives in `scope`, with one row per token.
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
    const { weights, batch, model } = this;
    const { arch } = model;
    const { headDim } = arch;
    const normed = this.#normed(input, weights.inputNorm);
    const q = this.#linear(normed, weights.q, weights.qBias);
    const k = this.#linear(normed, weights.k, weights.kBias);
    const v = this.#linear(normed, weights.v, weights.vBias);
    const rotations = model.rotations.upTo(batch.longest);
    const store = cache && { v, ...cache.layer(this.layer), start: cache.length };
    rope(this.#rec, q, k, batch.positions, rotations, store ? { headDim, store } : { headDim });
    const { keys, values } = store ?? { keys: this.#keyed(k), values: this.#keyed(v) };
    const window = arch.attentionWindow[this.layer] ?? null;
    const attended = this.scope.tensor([batch.tokens, arch.heads * headDim], 'f32', 'attended');
    attention(this.#rec, q, keys, values, batch.ranges(window), attended, {
      heads: arch.heads,
      kvHeads: arch.kvHeads,
      headDim,
      scale: arch.attentionScale,
      mostKeys: Math.min(batch.longest, window ?? batch.longest),
    });
    return attended;
  }

  /** Y = X + A W_oᵀ [T, hidden]. */
  postAttention(input: Tensor, attended: Tensor): Tensor {
    return this.#linear(attended, this.weights.o, this.weights.oBias, input);
  }

  /** H [T, intermediate] of Y: what enters down_proj. */
  mlpFeatures(y: Tensor): Tensor {
    const { weights, model } = this;
    const normed = this.#normed(y, weights.postNorm);
    const features = this.scope.tensor([y.rowCount, model.arch.intermediate], 'f32', 'mlp features');
    gatedMatmul(this.#rec, normed, weights.gate, weights.up, features, {
      activation: model.arch.activation,
      ...(weights.gateBias && { gateBias: weights.gateBias }),
      ...(weights.upBias && { upBias: weights.upBias }),
    });
    return features;
  }

  /** M = H W_downᵀ [T, hidden]. */
  mlpOutput(features: Tensor): Tensor {
    return this.#linear(features, this.weights.down, this.weights.downBias);
  }

  /** L = Y + H W_downᵀ [T, hidden]. */
  output(y: Tensor, features: Tensor): Tensor {
    return this.#linear(features, this.weights.down, this.weights.downBias, y);
  }

  /** Keys or values as the batch's ranges count them. */
  #keyed(x: Tensor): Tensor {
    const { keyRows } = this.batch;
    if (!keyRows) return x;
    const keyed = this.scope.tensor([keyRows.size, x.columns], 'f32', x.label);
    embedding(this.#rec, x, keyRows, keyed);
    return keyed;
  }

  #normed(x: Tensor, gain: Tensor): Tensor {
    const normed = this.scope.tensor(x.shape, 'f32', 'normed');
    rmsNorm(this.#rec, x, gain, normed, this.model.arch.normEps);
    return normed;
  }

  /** x Wᵀ (+ bias) (+ residual) for W [out, in] as stored. */
  #linear(x: Tensor, weight: Tensor, bias: Tensor | undefined, residual?: Tensor): Tensor {
    const output = this.scope.tensor([x.rowCount, weight.shape[0]!], 'f32', weight.label);
    matmul(this.#rec, x, weight, output, {
      transposeB: true,
      ...(bias && { bias }),
      ...(residual && { residual }),
    });
    return output;
  }
}
