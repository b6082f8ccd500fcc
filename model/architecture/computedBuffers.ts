/** Buffers that old checkpoints store although they are computed; loaders ignore them or complain. */
const computedBuffer = /\.(rotary_emb\.inv_freq|(attention|attn)\.(bias|masked_bias))$|(^|\.)position_ids$/;

export const isComputedBuffer = (name: string): boolean => computedBuffer.test(name);
