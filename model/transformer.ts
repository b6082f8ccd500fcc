import { ensure, type Recorder, Scope, Tensor } from '../engine/index.js';
import { attention } from '../kernels/attention.js';
import { add } from '../kernels/elementwise.js';
import { embedding } from '../kernels/embedding.js';
import { gatedMatmul } from '../kernels/gatedMatmul.js';
import { matmul } from '../kernels/matmul.js';
import { rmsNorm } from '../kernels/rmsNorm.js';
import { rope } from '../kernels/rope.js';
import type { Batch } from './batch.js';
import type { KvCache } from './kvCache.js';
import type { Model } from './model.js';

/** What a tap sees of a layer; row k belongs to token k of the batch. Valid only during the call: copy what you keep. */
export interface LayerTensors {
  /** X_i [T, hidden] */
  readonly layerInput: Tensor;
  /** Y_i = X_i + attention(norm(X_i)) [T, hidden] */
  readonly postAttention: Tensor;
  /** H_i = act(gate) * up [T, intermediate], what enters down_proj */
  readonly mlpFeatures: Tensor;
  /** M_i = H_i W_downᵀ [T, hidden] */
  readonly mlpOutput: Tensor;
  /** L_i = Y_i + M_i [T, hidden] */
  readonly layerOutput: Tensor;
}

/** Called while layer `layer` is being recorded; kernels that read the tensors may be recorded from here. */
export type Tap = (layer: number, tensors: LayerTensors) => void;

export interface ForwardOptions {
  /** First layer to run (default 0) and, if not 0, its input [T, hidden]. */
  from?: number;
  input?: Tensor;
  /** One past the last layer to run (default: all). */
  to?: number;
  /** Layers that are tapped store M_i, which otherwise is added to Y_i as soon as it is computed. */
  tap?: Tap;
  /** Only with a batch of one sequence that starts at the cache's length. */
  cache?: KvCache;
  /**
   * The result is only the last token's [1, hidden]; of the last layer no more is computed than that needs, so a tap sees
   * one row there.
   */
  lastToken?: boolean;
}

/**
 * Token embeddings of the batch [T, hidden]. The caller disposes the result.
 *
 * @throws RmError INVALID_ARGUMENT for a token id that the model does not have.
 */
export function embedTokens(model: Model, batch: Batch): Tensor {
  const { vocab } = model.arch;
  for (const sequence of batch.sequences) {
    for (const id of sequence) {
      ensure(
        Number.isInteger(id) && id >= 0 && id < vocab,
        `token id ${id}, but the model's vocabulary has ${vocab} tokens`,
        'Use the tokenizer.json that was published with the model: this one belongs to another.',
      );
    }
  }
  const output = Tensor.create(model.device, [batch.tokens, model.arch.hidden], 'f32', 'embeddings');
  embedding(model.device.recorder, model.weights.embedding, batch.ids, output);
  return output;
}

/**
 * Records layers from .. to-1 over a packed batch.
 *
 * @returns the hidden states after the last of them, before the final norm: [T, hidden], or [1, hidden] with `lastToken`.
 *   The caller disposes them.
 */
export function forward(model: Model, batch: Batch, options: ForwardOptions = {}): Tensor {
  const { from = 0, to = model.arch.layers, input, cache, lastToken } = options;
  cache?.requireRoom(batch.tokens);
  let hidden = input ?? embedTokens(model, batch);
  for (let layer = from; layer < to; layer++) {
    const before = hidden;
    try {
      hidden = runLayer(model, layer, before, batch, options, lastToken === true && layer === to - 1);
    } finally {
      if (before !== input) before.dispose();
    }
  }
  cache?.advance(batch.tokens);
  return hidden;
}

function runLayer(
  model: Model,
  layer: number,
  input: Tensor,
  batch: Batch,
  { tap, cache }: ForwardOptions,
  lastToken: boolean,
): Tensor {
  const { device, arch } = model;
  const rec = device.recorder;
  const weights = model.weights.layers[layer]!;
  const tokens = batch.tokens;
  using scope = new Scope(device);

  const normed = scope.tensor([tokens, arch.hidden], 'f32', 'normed');
  rmsNorm(rec, input, weights.inputNorm, normed, arch.normEps);
  const q = linear(rec, scope, normed, weights.q, weights.qBias);
  const k = linear(rec, scope, normed, weights.k, weights.kBias);
  const v = linear(rec, scope, normed, weights.v, weights.vBias);
  const rotations = model.rotations.upTo(batch.longest);
  const { headDim } = arch;
  const store = cache && { v, ...cache.layer(layer), start: cache.length };
  rope(rec, q, k, batch.positions, rotations, store ? { headDim, store } : { headDim });
  const { keys, values } = store ?? { keys: k, values: v };
  const window = arch.attentionWindow[layer] ?? null;
  const attended = scope.tensor([tokens, arch.heads * arch.headDim], 'f32', 'attended');
  attention(rec, q, keys, values, batch.ranges(window), attended, {
    heads: arch.heads,
    kvHeads: arch.kvHeads,
    headDim,
    scale: arch.attentionScale,
    mostKeys: Math.min(batch.longest, window ?? batch.longest),
  });
  // From here on every token is on its own.
  const wanted = (all: Tensor) => (lastToken ? lastRow(rec, scope, all) : all);
  const x = wanted(input);
  const y = linear(rec, scope, wanted(attended), weights.o, weights.oBias, x);

  const normedY = scope.tensor(y.shape, 'f32', 'normed');
  rmsNorm(rec, y, weights.postNorm, normedY, arch.normEps);
  const features = scope.tensor([y.rowCount, arch.intermediate], 'f32', 'mlp features');
  gatedMatmul(rec, normedY, weights.gate, weights.up, features, {
    activation: arch.activation,
    ...(weights.gateBias && { gateBias: weights.gateBias }),
    ...(weights.upBias && { upBias: weights.upBias }),
  });
  const output = Tensor.create(device, y.shape, 'f32', 'layer output');
  try {
    if (tap) {
      const mlpOutput = linear(rec, scope, features, weights.down, weights.downBias);
      add(rec, y, mlpOutput, output);
      tap(layer, { layerInput: x, postAttention: y, mlpFeatures: features, mlpOutput, layerOutput: output });
    } else {
      linearInto(rec, output, features, weights.down, weights.downBias, y);
    }
    return output;
  } catch (error) {
    output.dispose();
    throw error;
  }
}

function lastRow(rec: Recorder, scope: Scope, all: Tensor): Tensor {
  if (all.rowCount === 1) return all;
  const row = scope.tensor([1, all.columns], 'f32', all.label);
  rec.copy(all.rows(all.rowCount - 1, 1), row);
  return row;
}

/** output = x Wᵀ (+ bias) (+ residual) for W [out, in] as stored. */
function linearInto(
  rec: Recorder,
  output: Tensor,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  residual: Tensor | undefined,
): void {
  matmul(rec, x, weight, output, {
    transposeB: true,
    ...(bias && { bias }),
    ...(residual && { residual }),
  });
}

/** The same into a new tensor of the scope. */
function linear(
  rec: Recorder,
  scope: Scope,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  residual?: Tensor,
): Tensor {
  const output = scope.tensor([x.rowCount, weight.shape[0]!], 'f32', weight.label);
  linearInto(rec, output, x, weight, bias, residual);
  return output;
}

/** The final norm of hidden states [T, hidden]. The caller disposes the result. */
export function finalNorm(model: Model, hidden: Tensor): Tensor {
  const output = Tensor.create(model.device, hidden.shape, 'f32', 'final norm');
  rmsNorm(model.device.recorder, hidden, model.weights.finalNorm, output, model.arch.normEps);
  return output;
}
