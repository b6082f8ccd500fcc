import { checkArguments, optional, type Recorder, settings, type Tensor } from '../../engine/index.js';
import { scale, softcap } from '../map/named.js';
import { matmul } from '../matmul/matmul.js';
import { checkOperands, maybeNumber, maybeTensor } from '../shared/checks.js';

/** How a model scales and caps its logits: softcap(factor * logits, cap). */
export interface LogitForm {
  /** Default: 1. */
  readonly factor?: number;
  /** The cap; default: none. */
  readonly softcap?: number;
}

/** The form of a `LogitForm` that may be left out. */
export const maybeLogitForm = optional(settings<LogitForm>({ factor: maybeNumber, softcap: maybeNumber }));

/**
 * Computes the logits of some tokens of the vocabulary: out [T,n] f32 = hidden states [T,D] f32 (after the final norm)
 * times those rows [n,D] of the output head, transposed, plus those of its bias [n] f32, scaled and capped by `form`.
 */
export function logitTile(
  rec: Recorder,
  hidden: Tensor,
  head: Tensor,
  out: Tensor,
  form: LogitForm = {},
  bias?: Tensor,
): void {
  checkOperands('logitTile', rec, { hidden, head, out });
  checkArguments('logitTile', { form, bias }, { form: maybeLogitForm, bias: maybeTensor });
  const { factor = 1, softcap: cap } = form;
  matmul(rec, hidden, head, out, { transposeB: true, ...(bias && { bias }) });
  if (cap !== undefined) softcap(rec, out, cap, factor);
  else if (factor !== 1) scale(rec, out, factor);
}
