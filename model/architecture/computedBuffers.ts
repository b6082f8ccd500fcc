/** Buffers that old checkpoints store although they are computed; loaders ignore them or complain. */
const computedBuffer = /\.(rotary_emb\.inv_freq|(attention|attn)\.(bias|masked_bias))$|(^|\.)position_ids$/;

export const isComputedBuffer = (name: string): boolean => computedBuffer.test(name);

/** Constants of an activation (Apertus) that transformers stores, the same in every model. */
export const isStoredConstant = (name: string): boolean => /\.act_fn\.(beta|eps)$/.test(name);
