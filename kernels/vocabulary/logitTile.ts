import type { Recorder, Tensor } from '../../engine/index.js';
import { scale, softcap } from '../map/named.js';
import { matmul } from '../matmul/matmul.js';
import { checkOperands } from '../shared/checks.js';

/** How a model scales and caps its logits: softcap(factor * logits, cap). */
export interface LogitForm {
  /** Default: 1. */
  readonly factor?: number;
  /** The cap; default: none. */
  readonly softcap?: number;
}

/**
 * Computes the logits of some tokens of the vocabulary: out [T,n] f32 = hidden states [T,D] f32 (after the final norm)
 * times those rows [n,D] of the output head, transposed, scaled and capped by `form`.
 */
export function logitTile(
  rec: Recorder,
  hidden: Tensor,
  head: Tensor,
  out: Tensor,
  { factor = 1, softcap: cap }: LogitForm = {},
): void {
  checkOperands('logitTile', rec, { hidden, head, out });
  matmul(rec, hidden, head, out, { transposeB: true });
  if (cap !== undefined) softcap(rec, out, cap, factor);
  else if (factor !== 1) scale(rec, out, factor);
}
