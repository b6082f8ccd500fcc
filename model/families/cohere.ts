import type { Architecture } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import { type Dimensions, type HasTensor, layerKinds, type TextFamily, windowsOf } from './decoder.js';
import { neighbours } from './interleaved.js';
import { likeLlama } from './llama.js';

/** What Cohere's models share: branches side by side behind one LayerNorm without bias, and a factor on the logits. */
function likeCohere(
  config: ConfigReader,
  has: HasTensor,
  theta: number,
  more: (dimensions: Dimensions) => Partial<Architecture> = () => ({}),
): Architecture {
  if (config.flag('use_qk_norm', false)) {
    throw config.unsupported(
      'use_qk_norm',
      'is true: LayerNorms of single query and key heads are not supported',
      'Choose a model without them (Command R, R7B, A).',
    );
  }
  const bias = config.flag('attention_bias', false);
  return likeLlama(config, has, {
    tied: true,
    parts: { qkvBias: bias, outBias: bias },
    layer: names => ({ ...names, mlpNorm: names.inputNorm }),
    ropes: neighbours(config, theta),
    traits: dimensions => ({
      norm: { kind: 'layer', eps: config.positive('layer_norm_eps', 1e-5), offset: 0 },
      parallel: true,
      logitForm: { factor: config.positive('logit_scale', 0.0625) },
      ...more(dimensions),
    }),
  });
}

/** Command R. Source: transformers/models/cohere. */
export const cohere: TextFamily = (config, has) => likeCohere(config.knows('model_max_length'), has, 500_000);

/**
 * Command R7B and Command A: as Command R; three of four layers slide, and only these rotate.
 * Source: transformers/models/cohere2.
 */
export const cohere2: TextFamily = (config, has) => {
  // Published files state the form of the layers, which transformers does not read.
  config.knows('layer_switch', 'order_of_interleaved_layers', 'position_embedding_type', 'rotary_pct');
  config.knows(
    'use_embedding_sharing',
    'use_gated_activation',
    'use_parallel_block',
    'use_parallel_embedding',
  );
  return likeCohere(config, has, 10_000, ({ layers }) => {
    const kinds = layerKinds(config, layers, layer =>
      (layer + 1) % config.count('sliding_window_pattern', 4) === 0 ? 'full_attention' : 'sliding_attention',
    );
    return {
      layerRope: kinds.map(kind => (kind === 'sliding_attention' ? 0 : null)),
      attentionWindow: windowsOf(config, kinds, 4096),
      configLists: { layer_types: kinds },
    };
  });
};
