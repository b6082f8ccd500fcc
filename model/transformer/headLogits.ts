import { checkArguments, downloadF32, ensure, instanceOf, Tensor } from '../../engine/index.js';
import { logitTile, type Predictions, rowTiles } from '../../kernels/index.js';
import { aModel } from '../arguments/forms.js';
import type { Model } from './model.js';

/** What the losses read of a model: hidden states [T, hidden] after the final norm, and the output head. */
export const predictionsOf = ({ weights, arch }: Model, hidden: Tensor): Predictions => ({
  hidden,
  head: weights.lmHead,
  bias: weights.lmHeadBias,
  form: arch.logitForm,
});

/**
 * Computes the logits of every token on the host, f32 [tokens * vocab] row-major: `hidden` [tokens, hidden] after the final
 * norm times the output head, scaled and capped as the architecture says. Works by tiles of the vocabulary, so that a head
 * of any size can be bound.
 */
export async function headLogits(model: Model, hidden: Tensor): Promise<Float32Array> {
  const { device, weights, arch } = model;
  const tokens = hidden.rowCount;
  const logits = new Float32Array(tokens * arch.vocab);
  for (const { start, tensor: head } of rowTiles(weights.lmHead, 16384)) {
    const count = head.rowCount;
    using tile = Tensor.create(device, [tokens, count], 'f32', 'logits');
    logitTile(device.recorder, hidden, head, tile, arch.logitForm, weights.lmHeadBias?.rows(start, count));
    const values = await downloadF32(tile);
    for (let t = 0; t < tokens; t++) {
      logits.set(values.subarray(t * count, (t + 1) * count), t * arch.vocab + start);
    }
  }
  return logits;
}

/**
 * Computes the logits [T, vocab] of some tokens on the device, in tiles only if the head is too large for one binding;
 * `hidden` [T, hidden] after the final norm. The caller disposes the result.
 *
 * @throws RmError INVALID_ARGUMENT for hidden states of another width.
 */
export function tokenLogits(model: Model, hidden: Tensor): Tensor {
  checkArguments('tokenLogits', { model, hidden }, { model: aModel, hidden: instanceOf(Tensor, 'a tensor') });
  const { device, weights, arch } = model;
  ensure(
    hidden.shape.length === 2 && hidden.columns === arch.hidden,
    `tokenLogits: \`hidden\` is [${hidden.shape}], not [T,${arch.hidden}]`,
    'Pass what `finalNorm` returns.',
  );
  const { recorder } = device;
  const tokens = hidden.rowCount;
  const logits = Tensor.create(device, [tokens, arch.vocab], 'f32', 'logits');
  for (const { start, tensor: head } of rowTiles(weights.lmHead)) {
    const count = head.rowCount;
    const bias = weights.lmHeadBias?.rows(start, count);
    if (count === arch.vocab) {
      logitTile(recorder, hidden, head, logits, arch.logitForm, bias);
      continue;
    }
    using tile = Tensor.create(device, [tokens, count], 'f32', 'logits');
    logitTile(recorder, hidden, head, tile, arch.logitForm, bias);
    const all = logits.reshape([logits.size]);
    for (let t = 0; t < tokens; t++) {
      recorder.copy(tile.rows(t, 1), all.rows(t * arch.vocab + start, count));
    }
  }
  return logits;
}
