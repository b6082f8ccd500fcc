import {
  checkArguments,
  ensure,
  flag,
  instanceOf,
  optional,
  type Recorder,
  Scope,
  Tensor,
  whole,
} from '../../engine/index.js';
import { add, embedding, matmul, scale } from '../../kernels/index.js';
import { aBatch, aModel, maybeFunction, settingsAmong } from '../arguments/forms.js';
import type { Batch } from './batch.js';
import { type Edits, editsForm } from './edits.js';
import { KvCache } from './kvCache.js';
import { LayerSteps } from './layerSteps.js';
import type { Model } from './model.js';
import { normalise } from './norm.js';

/** The tensors of a layer that a tap receives; row k is token k of the batch. Valid only during the call: copy what you keep. */
export interface LayerTensors {
  /** X_i [T, hidden] */
  readonly layerInput: Tensor;
  /** Y_i [T, hidden]: X_i plus the attention's output */
  readonly postAttention: Tensor;
  /** H_i [T, intermediate], the input of down_proj; in a layer of experts that of the shared one, if there is any. */
  readonly mlpFeatures: Tensor | undefined;
  /** M_i [T, hidden], what the MLP adds */
  readonly mlpOutput: Tensor;
  /** L_i = Y_i + M_i [T, hidden] */
  readonly layerOutput: Tensor;
}

/** Called while layer `layer` is being recorded; may record kernels that read its tensors. */
export type Tap = (layer: number, tensors: LayerTensors) => void;

/** Settings of `forward`. */
export interface ForwardOptions {
  /** First layer to run (default 0) and, if not 0, its input [T, hidden]. */
  from?: number;
  input?: Tensor;
  /** One past the last layer to run (default: all). */
  to?: number;
  /** Receives every layer's tensors. A tapped layer stores M_i, which is otherwise added to Y_i as it is computed. */
  tap?: Tap;
  /** Changes the residual stream, the heads' outputs or the MLPs' outputs; taps see what it has made of them. */
  edit?: Edits;
  /** KV cache to read and extend; the batch begins where the cache ends. */
  cache?: KvCache;
  /**
   * Return only the last token's state [1, hidden] of the batch's one sequence. The last layer then computes only what that
   * needs, so a tap sees one row there.
   */
  lastToken?: boolean;
}

/** @throws RmError INVALID_ARGUMENT for a token id outside the vocabulary. */
export function checkTokenIds({ arch, weights }: Model, ids: readonly number[]): void {
  // An image encoder's vocabulary is the tokens of the shown images.
  const vocab = arch.vision ? weights.embedding.shape[0]! : arch.vocab;
  for (const id of ids) {
    ensure(
      Number.isInteger(id) && id >= 0 && id < vocab,
      `token id ${id} is outside the model's vocabulary of ${vocab} tokens`,
      'Use the tokenizer.json published with the model: this one belongs to another model.',
    );
  }
}

/**
 * Computes the token embeddings of a batch [T, hidden]. The caller disposes the result.
 *
 * @throws RmError INVALID_ARGUMENT for a token id outside the vocabulary.
 */
export function embedTokens(model: Model, batch: Batch): Tensor {
  for (const sequence of batch.sequences) checkTokenIds(model, sequence);
  const output = Tensor.create(model.device, [batch.tokens, model.arch.hidden], 'f32', 'embeddings');
  embedding(model.device.recorder, model.weights.embedding, batch.ids, output);
  if (model.arch.embeddingScale !== 1) scale(model.device.recorder, output, model.arch.embeddingScale);
  return output;
}

/**
 * Runs layers from .. to-1 over a packed batch.
 *
 * @returns the hidden states after the last of these layers, before the final norm: [T, hidden], or [1, hidden] with
 *   `lastToken`. The caller disposes them.
 * @throws RmError INVALID_ARGUMENT when the layers, the input or the places of a cache do not fit the model and the batch.
 */
export function forward(model: Model, batch: Batch, options: ForwardOptions = {}): Tensor {
  checkArguments(
    'forward',
    { model, batch, options },
    { model: aModel, batch: aBatch, options: forwardSettings },
  );
  checkForward(model, batch, options);
  const { layers } = model.arch;
  const { from = 0, to = layers, input, cache, lastToken, edit } = options;
  cache?.requireRoom(batch);
  let hidden = input ?? embedTokens(model, batch);
  if (input && edit?.residual) hidden = copyOf(model.device.recorder, input);
  for (let layer = from; layer < to; layer++) {
    const before = hidden;
    try {
      edit?.residual?.(layer, before);
      hidden = runLayer(model, layer, before, batch, options, lastToken === true && layer === to - 1);
    } finally {
      if (before !== input) before.dispose();
    }
  }
  // Between two calls the stream is the next one's to change.
  if (to === layers) edit?.residual?.(layers, hidden);
  cache?.advance(batch);
  return hidden;
}

function copyOf(rec: Recorder, tensor: Tensor): Tensor {
  const copy = Tensor.create(tensor.device, tensor.shape, tensor.dtype, tensor.label);
  rec.copy(tensor, copy);
  return copy;
}

/** `forward` through all layers, those of an offloaded model in turn. The caller disposes the result. */
export async function forwardInTurn(
  model: Model,
  batch: Batch,
  { cache, lastToken = false }: Pick<ForwardOptions, 'cache' | 'lastToken'> = {},
): Promise<Tensor> {
  const reading = cache && { cache };
  if (!model.isOffloaded) return forward(model, batch, { ...reading, lastToken });
  const { layers } = model.arch;
  let hidden = embedTokens(model, batch);
  for (let layer = 0; layer < layers; layer++) {
    using input = hidden;
    await model.loadLayer(layer, (layer + 1) % layers);
    const last = layer === layers - 1;
    hidden = forward(model, batch, {
      ...reading,
      from: layer,
      to: layer + 1,
      input,
      lastToken: lastToken && last,
    });
  }
  return hidden;
}

/** Throws INVALID_ARGUMENT for what would compute other numbers than were meant. */
const forwardSettings = settingsAmong<ForwardOptions>({
  from: optional(whole()),
  input: optional(instanceOf(Tensor, 'a tensor')),
  to: optional(whole()),
  tap: maybeFunction,
  edit: optional(editsForm),
  cache: optional(instanceOf(KvCache, 'a KvCache')),
  lastToken: optional(flag),
});

function checkForward(model: Model, batch: Batch, options: ForwardOptions): void {
  const { layers, hidden } = model.arch;
  const { from = 0, to = layers, input, cache, lastToken } = options;
  ensure(
    Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= layers,
    `layers ${from} to ${to} of a model of ${layers} layers`,
    '`from` and `to` are whole numbers with 0 <= `from` <= `to` <= the number of layers.',
  );
  ensure(
    from === 0 || input !== undefined,
    `layer ${from} without its input`,
    'Pass the output of the layer before as `input`.',
  );
  ensure(
    input === undefined ||
      (input.dtype === 'f32' && input.rowCount === batch.tokens && input.columns === hidden),
    `\`input\` is [${input?.shape}] ${input?.dtype}, the batch needs f32 [${batch.tokens},${hidden}]`,
    'Pass one row of hidden states for each token of the batch.',
  );
  ensure(
    cache === undefined || batch.places.length === batch.sequences.length,
    `${batch.sequences.length} sequences go on in ${batch.places.length} place of a KV cache`,
    'Make the cache with as many places, and the batch with `places: cache.places([0, 1, ...])`.',
  );
  ensure(
    !lastToken || batch.sequences.length === 1,
    `\`lastToken\` for ${batch.sequences.length} sequences`,
    'Pass a batch of one sequence, or take the rows that you need.',
  );
}

function runLayer(
  model: Model,
  layer: number,
  input: Tensor,
  batch: Batch,
  { tap, cache, edit }: ForwardOptions,
  lastToken: boolean,
): Tensor {
  const rec = model.device.recorder;
  using scope = new Scope(model.device);
  const steps = new LayerSteps(model, layer, batch, scope);
  const attended = steps.attended(input, cache);
  const { heads, headDim } = model.arch;
  edit?.heads?.(layer, attended.reshape([batch.tokens, heads, headDim]));
  // From here on tokens are independent.
  const neededRows = (all: Tensor) => (lastToken ? lastRow(rec, scope, all) : all);
  const x = neededRows(input);
  const y = steps.postAttention(x, neededRows(attended));
  const features = steps.mlpFeatures(y, x);
  let output: Tensor;
  if (tap || edit?.mlp) {
    const mlpOutput = steps.mlpOutput(features);
    edit?.mlp?.(layer, mlpOutput);
    output = scope.tensor(y.shape, 'f32', 'layer output');
    add(rec, y, mlpOutput, output);
    tap?.(layer, {
      layerInput: x,
      postAttention: y,
      mlpFeatures: features.dense,
      mlpOutput,
      layerOutput: output,
    });
  } else {
    output = steps.output(y, features);
  }
  const { residualMap } = model.weights.layers[layer]!;
  if (!residualMap) return scope.release(output);
  const mapped = scope.tensor(output.shape, 'f32', 'mapped residual stream');
  matmul(rec, output, residualMap, mapped);
  return scope.release(mapped);
}

function lastRow(rec: Recorder, scope: Scope, all: Tensor): Tensor {
  if (all.rowCount === 1) return all;
  const row = scope.tensor([1, all.columns], 'f32', all.label);
  rec.copy(all.rows(all.rowCount - 1, 1), row);
  return row;
}

/** Applies the final norm to hidden states [T, hidden]. The caller disposes the result. */
export function finalNorm(model: Model, hidden: Tensor): Tensor {
  checkArguments('finalNorm', { model, hidden }, { model: aModel, hidden: instanceOf(Tensor, 'a tensor') });
  const output = Tensor.create(model.device, hidden.shape, 'f32', 'final norm');
  const { finalNorm: gain, finalNormBias: bias } = model.weights;
  normalise(model.device.recorder, model.arch.norm, hidden, [gain, bias], output);
  return output;
}

/** Runs `forward` and the final norm. The caller disposes the result. */
export function finalHidden(model: Model, batch: Batch, options: ForwardOptions = {}): Tensor {
  using hidden = forward(model, batch, options);
  return finalNorm(model, hidden);
}
