import type { TextFamily } from './decoder.js';
import { likeLlama } from './llama.js';

/** Seed-OSS: a Llama with biases of queries, keys and values. Source: transformers/models/seed_oss. */
export const seedOss: TextFamily = (config, has) =>
  likeLlama(config, has, {
    headDim: 128,
    parts: {
      qkvBias: config.flag('attention_bias', true),
      outBias: config.flag('attention_out_bias', false),
      mlpBias: config.flag('mlp_bias', false),
    },
  });
