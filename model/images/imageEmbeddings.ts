import { checkArguments, downloadF32, ensure, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { attention, embedding, matmul } from '../../kernels/index.js';
import { storedHeadDim } from '../architecture/architecture.js';
import { requireVision } from '../architecture/modality.js';
import { aModel, tokenLists } from '../arguments/forms.js';
import { Batch, defaultBatchTokens, groupSequences } from '../transformer/batch.js';
import { LayerSteps } from '../transformer/layerSteps.js';
import type { Model } from '../transformer/model.js';
import { embedTokens, finalNorm, forward } from '../transformer/transformer.js';

/**
 * Computes the embeddings of shown images, f32 [images, projection] (without a projection [images, hidden]): the states after
 * the final norm, pooled and projected, like `image_embeds` or `pooler_output` in transformers.
 */
export async function imageEmbeddings(
  model: Model,
  sequences: readonly (readonly number[])[],
): Promise<Float32Array> {
  checkArguments('imageEmbeddings', { model, sequences }, { model: aModel, sequences: tokenLists });
  const { device, arch, weights } = model;
  const { projection } = requireVision(arch);
  ensure(sequences.length > 0, 'there are no images', 'Give at least one image.');
  const rec = device.recorder;
  const parts: Float32Array[] = [];
  for (const group of groupSequences(sequences, defaultBatchTokens(device, arch))) {
    using scope = new Scope(device);
    using batch = new Batch(device, group);
    const hidden = scope.own(await throughLayers(model, batch));
    const pooled = pooledStates(model, batch, hidden, scope);
    if (projection === null) {
      parts.push(await downloadF32(pooled));
      continue;
    }
    const projected = scope.tensor([group.length, projection], 'f32', 'image embeddings');
    matmul(rec, pooled, weights.lmHead, projected, { transposeB: true });
    parts.push(await downloadF32(projected));
  }
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const values of parts) {
    all.set(values, at);
    at += values.length;
  }
  return all;
}

/** Hidden states after the last layer; loads an offloaded model layer by layer. The caller disposes them. */
async function throughLayers(model: Model, batch: Batch): Promise<Tensor> {
  const { layers } = model.arch;
  if (!model.isOffloaded) return forward(model, batch);
  let hidden = embedTokens(model, batch);
  for (let layer = 0; layer < layers; layer++) {
    using input = hidden;
    await model.loadLayer(layer, layer + 1 < layers ? layer + 1 : undefined);
    hidden = forward(model, batch, { from: layer, to: layer + 1, input });
  }
  return hidden;
}

/** What the tokens of each image become together [images, hidden], from the last layer's output. */
function pooledStates(model: Model, batch: Batch, hidden: Tensor, scope: Scope): Tensor {
  const { pooling } = requireVision(model.arch);
  if (pooling === 'class') {
    const first = Uint32Array.from(batch.rowsOf, rows => rows[0]!);
    return scope.own(finalNorm(model, rowsOf(hidden, first, scope)));
  }
  const states = scope.own(finalNorm(model, hidden));
  return pooling === 'mean' ? means(batch, states, scope) : throughHead(model, batch, states, scope);
}

function rowsOf(x: Tensor, rows: Uint32Array, scope: Scope): Tensor {
  const { device } = scope;
  const gathered = scope.tensor([rows.length, x.columns], 'f32', x.label);
  embedding(device.recorder, x, scope.own(tensorFrom(device, rows)), gathered);
  return gathered;
}

/** The head's output for each image, see PoolingHead: the probe attends to the image's tokens. */
function throughHead(model: Model, batch: Batch, states: Tensor, scope: Scope): Tensor {
  const { arch, weights, device } = model;
  const { heads, attentionScale: scale } = arch;
  const { probe, layer } = weights.vision!.head!;
  const steps = new LayerSteps(model, 0, batch, scope, layer);
  const padded = (x: Tensor) => steps.widened(x, arch.heads, storedHeadDim(arch));
  const probes = rowsOf(probe.reshape([1, arch.hidden]), new Uint32Array(batch.sequences.length), scope);
  const [q, k, v] = [
    padded(steps.linear(probes, layer.q, layer.qBias)),
    padded(steps.linear(states, layer.k, layer.kBias)),
    padded(steps.linear(states, layer.v, layer.vBias)),
  ];
  const bounds = Uint32Array.from(batch.rowsOf.flatMap(rows => [rows[0]!, rows[0]! + rows.length]));
  const ranges = scope.own(tensorFrom(device, bounds, [probes.rowCount, 2], 'attention ranges'));
  const out = scope.tensor(q.shape, 'f32', 'attended');
  const options = { heads, kvHeads: heads, headDim: storedHeadDim(arch), scale, mostKeys: batch.longest };
  attention(device.recorder, q, k, v, ranges, out, options);
  const y = steps.attentionProjected(steps.widened(out, heads, arch.headDim));
  return steps.output(y, steps.mlpFeatures(y, y));
}

/** The mean of each image's tokens, by a matrix that has 1 / tokens where a token belongs to an image. */
function means(batch: Batch, states: Tensor, scope: Scope): Tensor {
  const images = batch.rowsOf.length;
  const shares = new Float32Array(images * batch.tokens);
  for (const [image, rows] of batch.rowsOf.entries()) {
    for (const row of rows) shares[image * batch.tokens + row] = 1 / rows.length;
  }
  const mean = scope.tensor([images, states.columns], 'f32', 'means');
  const matrix = scope.own(tensorFrom(scope.device, shares, [images, batch.tokens], 'shares'));
  matmul(scope.device.recorder, matrix, states, mean);
  return mean;
}
