import { downloadF32, Tensor } from '../../engine/index.js';
import { logitTile, rowTiles } from '../../kernels/index.js';
import type { Model } from './model.js';

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
    logitTile(device.recorder, hidden, head, tile, arch.logitForm);
    const values = await downloadF32(tile);
    for (let t = 0; t < tokens; t++) {
      logits.set(values.subarray(t * count, (t + 1) * count), t * arch.vocab + start);
    }
  }
  return logits;
}

/**
 * Computes the logits [1, vocab] of one token on the device, in tiles only if the head is too large for one binding;
 * `hidden` [1, hidden] after the final norm. The caller disposes the result.
 */
export function tokenLogits({ device, weights, arch }: Model, hidden: Tensor): Tensor {
  const logits = Tensor.create(device, [1, arch.vocab], 'f32', 'logits');
  for (const { start, tensor: head } of rowTiles(weights.lmHead)) {
    const tile = logits.reshape([arch.vocab]).rows(start, head.rowCount).reshape([1, head.rowCount]);
    logitTile(device.recorder, hidden, head, tile, arch.logitForm);
  }
  return logits;
}
