import type { Architecture } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import type { HasTensor } from './decoder.js';
import { likeLlama } from './llama.js';

/**
 * Granite 3: a Llama with factors on embeddings, residual branches, attention scores and logits.
 * Source: transformers/models/granite.
 */
export function granite(config: ConfigReader, has: HasTensor): Architecture {
  const attentionBias = config.flag('attention_bias', false);
  return likeLlama(config, has, {
    parts: { qkvBias: attentionBias, outBias: attentionBias, mlpBias: config.flag('mlp_bias', false) },
    traits: () => ({
      embeddingScale: config.positive('embedding_multiplier', 1),
      residualScale: config.positive('residual_multiplier', 1),
      attentionScale: config.positive('attention_multiplier', 1),
      logitForm: { factor: 1 / config.positive('logits_scaling', 1) },
    }),
  });
}
