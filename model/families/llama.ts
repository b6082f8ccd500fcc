import type { Architecture } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import {
  type Dimensions,
  decoder,
  type FamilyTraits,
  type HasTensor,
  type LlamaParts,
  llamaForms,
  llamaLayer,
  namesInForm,
  readActivation,
  readDimensions,
  requireEvenHeads,
  storedForm,
} from './decoder.js';
import { readRope } from './rope.js';

/**
 * Llama 1 to 3.x and models built the same way (SmolLM, TinyLlama ...): grouped-query attention, RMSNorm before attention
 * and MLP, SwiGLU, RoPE on whole heads. Source: transformers/models/llama.
 */
export function llama(config: ConfigReader, has: HasTensor): Architecture {
  const attentionBias = config.flag('attention_bias', false);
  return likeLlama(config, has, {
    parts: { qkvBias: attentionBias, outBias: attentionBias, mlpBias: config.flag('mlp_bias', false) },
  });
}

/** How a Llama-like family differs from Llama. */
interface LlamaVariant {
  readonly parts?: LlamaParts;
  /** Base of the rotation frequencies if config.json lacks it (default: 10,000). */
  readonly theta?: number;
  /** Columns of a head if config.json lacks it (default: hidden_size / num_attention_heads). */
  readonly headDim?: number;
  /** Whether embeddings are tied if config.json does not say (default: no). */
  readonly tied?: boolean;
  readonly traits?: (dimensions: Dimensions) => Partial<FamilyTraits>;
}

/** Builds the architecture of a Llama-like family. */
export function likeLlama(
  config: ConfigReader,
  has: HasTensor,
  { parts = {}, theta = 10_000, headDim, tied = false, traits }: LlamaVariant,
): Architecture {
  const dimensions = readDimensions(config, headDim);
  requireEvenHeads(config, dimensions.headDim);
  const tiedEmbeddings = config.flag('tie_word_embeddings', tied);
  const form = storedForm(llamaForms, 'embed_tokens.weight', has);
  return decoder(config, dimensions, {
    tiedEmbeddings,
    activation: readActivation(config, 'hidden_act', 'silu'),
    ropes: [readRope(config, { ...dimensions, theta: config.positive('rope_theta', theta) })],
    tensorNames: namesInForm(form, { ...dimensions, tiedEmbeddings }, at => llamaLayer(at, parts)),
    ...traits?.(dimensions),
  });
}
