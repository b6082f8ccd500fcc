import type { Architecture, LayerTensorNames } from '../architecture/architecture.js';
import type { Rope } from '../architecture/rope.js';
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
  type StoredForms,
  storedForm,
  type TextFamily,
} from './decoder.js';
import { readRope } from './rope.js';

/**
 * Llama 1 to 3.x and models built the same way (SmolLM, TinyLlama ...): grouped-query attention, RMSNorm before attention
 * and MLP, SwiGLU, RoPE on whole heads. Source: transformers/models/llama.
 */
export const llama: TextFamily = (config, has, forms) =>
  // Falcon 3 states its activation twice.
  likeLlama(config.knows('activation'), has, { forms, parts: llamaBiases(config) });

/** Biases by `attention_bias` and `mlp_bias`. */
export function llamaBiases(config: ConfigReader): LlamaParts {
  const attention = config.flag('attention_bias', false);
  return { qkvBias: attention, outBias: attention, mlpBias: config.flag('mlp_bias', false) };
}

/** How a Llama-like family differs from Llama. */
interface LlamaVariant {
  /** Where the tensors outside the layers may be stored (default: as Llama). */
  readonly forms?: StoredForms | undefined;
  readonly parts?: LlamaParts;
  /** Base of the rotation frequencies if config.json lacks it (default: 10,000). */
  readonly theta?: number;
  /** Columns of a head if config.json lacks it (default: hidden_size / num_attention_heads). */
  readonly headDim?: number;
  /** Whether embeddings are tied if config.json does not say (default: no). */
  readonly tied?: boolean;
  /** The activation if config.json lacks `hidden_act` (default: silu). */
  readonly activation?: string;
  /** Replaces the activation that `hidden_act` names. */
  readonly learnedActivation?: 'xielu' | undefined;
  /** Names of a layer's tensors, from those of a Llama with these `parts`. */
  readonly layer?: (
    names: LayerTensorNames,
    at: string,
    dimensions: Dimensions,
    layer: number,
  ) => LayerTensorNames;
  /** Name of the norm after the last layer (default: norm), and whether it has a bias. */
  readonly finalNorm?: string;
  readonly finalNormBias?: boolean;
  /** Whether the head has a bias. */
  readonly headBias?: boolean;
  /** Settings that replace rotation of whole heads, the same in all layers. */
  readonly ropes?: (dimensions: Dimensions) => readonly Rope[];
  readonly traits?: (dimensions: Dimensions) => Partial<FamilyTraits>;
}

function wholeHeads(config: ConfigReader, dimensions: Dimensions, theta: number): Rope {
  requireEvenHeads(config, dimensions.headDim);
  return readRope(config, { ...dimensions, theta: config.positive('rope_theta', theta) });
}

/** Builds the architecture of a Llama-like family. */
export function likeLlama(config: ConfigReader, has: HasTensor, variant: LlamaVariant): Architecture {
  const { forms = llamaForms, parts = {}, theta = 10_000, tied = false, activation = 'silu' } = variant;
  const dimensions = readDimensions(config, variant.headDim);
  const tiedEmbeddings = config.flag('tie_word_embeddings', tied);
  const form = storedForm(forms, 'embed_tokens.weight', has);
  const { layer = names => names } = variant;
  const names = namesInForm(form, { ...dimensions, tiedEmbeddings }, (at, n) =>
    layer(llamaLayer(at, parts), at, dimensions, n),
  );
  const finalNorm = `${form.prefix}${variant.finalNorm ?? 'norm'}`;
  return decoder(config, dimensions, {
    tiedEmbeddings,
    activation: variant.learnedActivation ?? readActivation(config, 'hidden_act', activation),
    ropes: variant.ropes?.(dimensions) ?? [wholeHeads(config, dimensions, theta)],
    tensorNames: {
      ...names,
      finalNorm: `${finalNorm}.weight`,
      ...(variant.finalNormBias && { finalNormBias: `${finalNorm}.bias` }),
      ...(variant.headBias && { lmHeadBias: form.lmHead.replace(/weight$/, 'bias') }),
    },
    ...variant.traits?.(dimensions),
  });
}
