import type { Architecture } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import type { FamilyTraits, HasTensor } from './decoder.js';
import { fusedGate } from './fusedHeads.js';
import { likeLlama, llamaBiases } from './llama.js';

/**
 * Granite 3: a Llama with factors on embeddings, residual branches, attention scores and logits.
 * Source: transformers/models/granite.
 */
export function granite(config: ConfigReader, has: HasTensor): Architecture {
  return likeLlama(config, has, {
    parts: llamaBiases(config),
    traits: () => factors(config),
  });
}

const factors = (config: ConfigReader): Partial<FamilyTraits> => ({
  embeddingScale: config.positive('embedding_multiplier', 1),
  residualScale: config.positive('residual_multiplier', 1),
  attentionScale: config.positive('attention_multiplier', 1),
  logitForm: { factor: 1 / config.positive('logits_scaling', 1) },
});

/**
 * Granite 4 without experts and without Mamba layers: a Granite whose MLP is stored as `shared_mlp`, with gate and up as one
 * tensor; positions are not rotated unless `position_embedding_type` is "rope". Source: transformers/models/granitemoehybrid.
 */
export function graniteHybrid(config: ConfigReader, has: HasTensor): Architecture {
  const fix =
    'Choose a Granite 4 without experts whose layers all have attention (granite-4.0-micro, -1b, -350m).';
  if (config.get('num_local_experts') !== 0) {
    throw config.unsupported('num_local_experts', 'is not 0: its experts are not supported', fix);
  }
  const kinds = config.choices('layer_types', config.count('num_hidden_layers'), [
    'attention',
    'full_attention',
  ]);
  if (!kinds) throw config.unsupported('layer_types', 'is missing: all layers are Mamba layers then', fix);
  // Settings of the experts and Mamba layers that such a model has not.
  config.knows('num_experts_per_tok', 'time_step_limit');
  const bias = config.flag('attention_bias', false);
  const rotates = config.get('position_embedding_type') === 'rope';
  const intermediate = config.count('shared_intermediate_size', 1024);
  return likeLlama(config, has, {
    parts: { qkvBias: bias, outBias: bias },
    layer: (names, at) => ({
      ...names,
      ...fusedGate(`${at}.shared_mlp.input_linear.weight`, intermediate),
      down: `${at}.shared_mlp.output_linear.weight`,
    }),
    traits: ({ layers }) => ({
      ...factors(config),
      intermediate,
      layerRope: new Array<number | null>(layers).fill(rotates ? 0 : null),
    }),
  });
}
