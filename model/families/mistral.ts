import type { ConfigReader } from './configReader.js';
import { commonWindow, type Dimensions, type TextFamily } from './decoder.js';
import { likeLlama } from './llama.js';
import { readRope } from './rope.js';

/** Mistral: a Llama without biases, with an optional sliding window in all layers. Source: transformers/models/mistral. */
export const mistral: TextFamily = (config, has, forms) =>
  likeLlama(config, has, {
    forms,
    traits: ({ layers }) => ({ attentionWindow: commonWindow(config, layers, 4096) }),
  });

/** What transformers takes where config.json says nothing of rotation. */
const ministralRope = {
  rope_type: 'yarn',
  rope_theta: 1_000_000,
  factor: 16,
  original_max_position_embeddings: 16_384,
  beta_fast: 32,
  beta_slow: 1,
  mscale_all_dim: 1,
  mscale: 1,
  llama_4_scaling_beta: 0.1,
};

/**
 * Ministral 3: a Mistral with yarn whose queries grow with the position, by 1 + beta log(1 + floor(position / original
 * context)). Source: transformers/models/ministral3.
 */
export const ministral3: TextFamily = (config, has, forms) => {
  const scaling = rotationSettings(config);
  const rope = (dimensions: Dimensions) => readRope(config, { ...dimensions, scaling });
  return likeLlama(config, has, {
    forms,
    headDim: 128,
    ropes: dimensions => [rope(dimensions)],
    traits: ({ layers, contextLength }) => ({
      attentionWindow: commonWindow(config, layers, null),
      queryGrowth: {
        beta: scaling.nonNegative('llama_4_scaling_beta'),
        every: scaling.count('original_max_position_embeddings', contextLength),
      },
    }),
  });
};

function rotationSettings(config: ConfigReader): ConfigReader {
  for (const field of ['rope_scaling', 'rope_parameters']) {
    if (config.get(field) !== undefined) return config.object(field);
  }
  return config.withDefaults({ rope_parameters: ministralRope }).object('rope_parameters');
}
