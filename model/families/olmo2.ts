import type { Architecture } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { type HasTensor, llamaForms, llamaLayer, namesInForm, storedForm } from './decoder.js';
import { likeLlama } from './llama.js';

/**
 * OLMo 2: a Llama with norms after attention and MLP instead of before, and queries and keys normalised over all heads.
 * Source: transformers/models/olmo2.
 */
export function olmo2(config: ConfigReader, has: HasTensor): Architecture {
  const bias = config.flag('attention_bias', false);
  const parts = { qkvBias: bias, outBias: bias, qkNorm: true };
  const tiedEmbeddings = config.flag('tie_word_embeddings', false);
  const form = storedForm(llamaForms, 'embed_tokens.weight', has);
  return likeLlama(config, has, {
    traits: ({ layers }) => ({
      qkNorm: 'projection',
      tensorNames: namesInForm(form, { layers, tiedEmbeddings }, at => ({
        ...llamaLayer(at, parts),
        inputNorm: null,
        attentionOutNorm: `${at}.post_attention_layernorm.weight`,
        mlpNorm: null,
        mlpOutNorm: `${at}.post_feedforward_layernorm.weight`,
      })),
    }),
  });
}
