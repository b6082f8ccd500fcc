import type { LayerTensorNames } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import type { Dimensions, TextFamily } from './decoder.js';
import { fusedGate } from './fusedHeads.js';
import { likeLlama, llamaBiases } from './llama.js';
import { readRope } from './rope.js';

/** RoPE that turns neighbouring columns of a head together; `partial` is the default part of each head that rotates. */
export const neighbours =
  (config: ConfigReader, theta: number, partial?: number) => (dimensions: Dimensions) => [
    readRope(config, {
      ...dimensions,
      theta: config.positive('rope_theta', theta),
      interleaved: true,
      ...(partial !== undefined && { partial: config.positive('partial_rotary_factor', partial) }),
    }),
  ];

/** Helium: a Llama but for its rotation. Source: transformers/models/helium. */
export const helium: TextFamily = (config, has) =>
  likeLlama(config, has, {
    headDim: 128,
    parts: { ...llamaBiases(config), outBias: false },
    ropes: neighbours(config, 100_000),
  });

/** ERNIE 4.5 without experts: a Llama but for its rotation, with biases on request. Source: transformers/models/ernie4_5. */
export const ernie4_5: TextFamily = (config, has) => {
  const bias = config.flag('use_bias', false);
  return likeLlama(config, has, {
    headDim: 128,
    tied: true,
    parts: { qkvBias: bias, outBias: bias, mlpBias: bias },
    ropes: neighbours(config, 500_000),
  });
};

const likeGlm =
  (more: (names: LayerTensorNames, at: string) => LayerTensorNames): TextFamily =>
  (config, has) =>
    likeLlama(config, has, {
      headDim: 128,
      parts: { qkvBias: config.flag('attention_bias', true) },
      layer: (names, at, { intermediate }) =>
        more({ ...names, ...fusedGate(`${at}.mlp.gate_up_proj.weight`, intermediate) }, at),
      ropes: neighbours(config, 10_000, 0.5),
    });

/** GLM-4 (2024) and GLM-Edge: half of each head rotates, gate and up are one tensor. Source: transformers/models/glm. */
export const glm = likeGlm(names => names);

/** GLM-4 (0414): as GLM, with norms before and after each branch. Source: transformers/models/glm4. */
export const glm4 = likeGlm((names, at) => ({
  ...names,
  attentionOutNorm: `${at}.post_self_attn_layernorm.weight`,
  mlpOutNorm: `${at}.post_mlp_layernorm.weight`,
}));
