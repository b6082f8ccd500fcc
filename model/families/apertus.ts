import type { TextFamily } from './decoder.js';
import { likeLlama } from './llama.js';
import { readRope } from './rope.js';

/** What transformers takes where config.json says nothing of rotation. */
const usualRope = {
  rope_type: 'llama3',
  rope_theta: 12_000_000,
  factor: 8,
  original_max_position_embeddings: 8192,
  low_freq_factor: 1,
  high_freq_factor: 4,
};

/**
 * Apertus: a Llama without gate whose activation, xIELU, has two weights in each layer; queries and keys are normalised head
 * by head. Source: transformers/models/apertus.
 */
export const apertus: TextFamily = (config, has) => {
  const bias = config.flag('attention_bias', false);
  const learned = config.text('hidden_act', 'xielu') === 'xielu';
  // Published files state the form of the layers, which transformers does not read.
  config.knows('qk_norm', 'post_norm', 'mlp_bias');
  const stated = config.get('rope_scaling') ?? config.get('rope_parameters');
  const rotation = stated === undefined ? config.with({ rope_parameters: usualRope }) : config;
  return likeLlama(config, has, {
    learnedActivation: learned ? 'xielu' : undefined,
    parts: { qkvBias: bias, outBias: bias, qkNorm: true },
    layer: (names, at) => ({
      ...names,
      inputNorm: `${at}.attention_layernorm.weight`,
      mlpNorm: `${at}.feedforward_layernorm.weight`,
      gate: null,
      alphaP: learned ? `${at}.mlp.act_fn.alpha_p` : null,
      alphaN: learned ? `${at}.mlp.act_fn.alpha_n` : null,
    }),
    ropes: dimensions => [
      readRope(rotation, { ...dimensions, theta: rotation.positive('rope_theta', 12_000_000) }),
    ],
    traits: () => ({ qkNorm: 'head' }),
  });
};
