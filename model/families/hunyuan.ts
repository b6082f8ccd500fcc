import type { TextFamily } from './decoder.js';
import { likeLlama } from './llama.js';
import { flatSettings, readRope } from './rope.js';

/**
 * Hunyuan's dense models: a Llama whose queries and keys are normalised head by head after their rotation. "alpha" in
 * rope_scaling stretches the base of the frequencies. Source: transformers/models/hunyuan_v1_dense.
 */
export const hunyuanDense: TextFamily = (config, has) => {
  const bias = config.flag('attention_bias', false);
  // Published files state the form of the layers, which transformers does not read.
  config.knows('use_qk_norm', 'attention_head_dim', 'num_experts', 'dense_list', 'norm_type', 'mlp_bias');
  config.knows('use_rotary_pos_emb');
  return likeLlama(config, has, {
    parts: { qkvBias: bias, outBias: bias, qkNorm: true },
    layer: (names, at) => ({
      ...names,
      qNorm: `${at}.self_attn.query_layernorm.weight`,
      kNorm: `${at}.self_attn.key_layernorm.weight`,
    }),
    ropes: dimensions => {
      const { headDim } = dimensions;
      const scaling = flatSettings(config).knows('beta_fast', 'beta_slow', 'mscale', 'mscale_all_dim');
      const rope = readRope(config, { ...dimensions, scaling });
      // transformers reads it of "dynamic" frequencies only.
      const stretched = scaling.text('rope_type', scaling.text('type', 'default')) === 'dynamic';
      const alpha = stretched && scaling.get('alpha') ? scaling.positive('alpha') : 1;
      return [{ ...rope, theta: rope.theta * alpha ** (headDim / (headDim - 2)) }];
    },
    traits: () => ({ qkNorm: 'rotated head' }),
  });
};
