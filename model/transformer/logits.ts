import { checkArguments, downloadF32, flag, optional } from '../../engine/index.js';
import { aModel, settingsAmong, tokenIds } from '../arguments/forms.js';
import { Batch } from './batch.js';
import { type Edits, editsForm } from './edits.js';
import { headLogits } from './headLogits.js';
import type { Model } from './model.js';
import { embedTokens, finalNorm, forward } from './transformer.js';

/** Result of `logits`; values on the host, row-major. */
export interface LogitsResult {
  /** f32 [tokens, vocab] */
  logits: Float32Array;
  /** With `taps`: f32 [tokens, hidden] before layer 0, after every layer, and after the final norm. */
  hidden?: { embedding: Float32Array; layers: Float32Array[]; finalNorm: Float32Array };
}

/** Settings of `logits`. */
export interface LogitsOptions {
  /** Return the hidden states between the layers too. */
  taps?: boolean;
  /** Changes what the layers compute, as in `forward`. */
  edit?: Edits;
}

const logitsSettings = settingsAmong<LogitsOptions>({ taps: optional(flag), edit: optional(editsForm) });

/** Computes the logits of every token of one sequence and, with `taps`, the hidden states between the layers. */
export async function logits(
  model: Model,
  ids: readonly number[],
  options: LogitsOptions = {},
): Promise<LogitsResult> {
  checkArguments(
    'logits',
    { model, ids, options },
    { model: aModel, ids: tokenIds, options: logitsSettings },
  );
  const { arch, device } = model;
  const edit = options.edit && { edit: options.edit };
  using batch = new Batch(device, [ids]);
  let hidden = embedTokens(model, batch);
  try {
    const embedding = options.taps && (await downloadF32(hidden));
    const layers: Float32Array[] = [];
    for (let layer = 0; layer < arch.layers; layer++) {
      await model.loadLayer(layer, layer + 1);
      const output = forward(model, batch, { from: layer, to: layer + 1, input: hidden, ...edit });
      hidden.dispose();
      hidden = output;
      if (options.taps) layers.push(await downloadF32(hidden));
    }
    using normed = finalNorm(model, hidden);
    const values = await headLogits(model, normed);
    return embedding
      ? { logits: values, hidden: { embedding, layers, finalNorm: await downloadF32(normed) } }
      : { logits: values };
  } finally {
    hidden.dispose();
  }
}
