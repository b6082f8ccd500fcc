import type { Recorder, Tensor } from '../../engine/index.js';
import { scale } from '../elementwise/elementwise.js';
import { softcap } from '../elementwise/softcap.js';
import { matmul } from '../matmul/matmul.js';

/** What a model does to its logits: softcap(factor * logits, cap). */
export interface LogitForm {
  /** Default: 1. */
  readonly factor?: number;
  /** Default: none. */
  readonly softcap?: number;
}

/**
 * out[T,n] = logits of the hidden states [T,D] f32 (after the final norm) for some rows [n,D] of the output head, as
 * `form` changes them.
 */
export function logitTile(
  rec: Recorder,
  hidden: Tensor,
  head: Tensor,
  out: Tensor,
  { factor = 1, softcap: cap }: LogitForm = {},
): void {
  matmul(rec, hidden, head, out, { transposeB: true });
  if (cap !== undefined) softcap(rec, out, cap, factor);
  else if (factor !== 1) scale(rec, out, factor);
}
