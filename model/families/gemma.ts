import type { LogitForm } from '../../kernels/index.js';
import type { Architecture, LayerTensorNames } from '../architecture/architecture.js';
import type { Rope } from '../architecture/rope.js';
import type { ConfigReader } from './configReader.js';
import {
  decoder,
  type HasTensor,
  layerKinds,
  llamaForms,
  llamaLayer,
  namesInForm,
  readActivation,
  readDimensions,
  requireEvenHeads,
  type StoredForms,
  storedForm,
  windowsOf,
} from './decoder.js';
import { readRope } from './rope.js';

/**
 * Gemma 2: norms before and after attention and MLP, gains stored as gain - 1, embeddings times sqrt(hidden), soft-capped
 * scores and logits, sliding windows in every other layer. Source: transformers/models/gemma2.
 */
export function gemma2(config: ConfigReader, has: HasTensor): Architecture {
  return gemma(config, has, {
    forms: llamaForms,
    ropes: headDim => [readRope(config, { headDim, contextLength: config.count('max_position_embeddings') })],
    slidesEvery: 2,
    attentionSoftcap: cap(config, 'attn_logit_softcapping', 50) ?? null,
    finalSoftcap: cap(config, 'final_logit_softcapping', 30),
    qkNorm: false,
  });
}

/**
 * Gemma 3, text: like Gemma 2, but with a norm per query and key head and no score cap; sliding layers have their own
 * rotation frequencies. Source: transformers/models/gemma3.
 */
export function gemma3Text(config: ConfigReader, has: HasTensor): Architecture {
  return gemma3(config, has, llamaForms, cap(config, 'final_logit_softcapping', undefined));
}

/** What transformers takes for fields that `text_config` leaves out, as in the published files. */
const gemma3Defaults = {
  vocab_size: 262_208,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  max_position_embeddings: 131_072,
  rms_norm_eps: 1e-6,
};

/** The language model of a Gemma 3 that also reads images; its logits are not capped. */
export function gemma3Multimodal(config: ConfigReader, has: HasTensor): Architecture {
  const text = config.object('text_config').withDefaults(gemma3Defaults);
  const forms: StoredForms = [
    { prefix: 'language_model.model.', lmHead: 'language_model.lm_head.weight' },
    { prefix: 'model.language_model.', lmHead: 'lm_head.weight' },
  ];
  const arch = gemma3(text, has, forms, undefined, config.flag('tie_word_embeddings', true));
  return { ...arch, family: config.text('model_type'), configPath: ['text_config'] };
}

function gemma3(
  config: ConfigReader,
  has: HasTensor,
  forms: StoredForms,
  finalSoftcap: number | undefined,
  tied?: boolean,
): Architecture {
  // transformers does not use the cap of scores, and reads the flag beside text_config.
  config.knows('attn_logit_softcapping', 'tie_word_embeddings', 'final_logit_softcapping');
  return gemma(config, has, {
    forms,
    ropes: headDim => gemma3Ropes(config, headDim),
    slidesEvery: config.count('sliding_window_pattern', 6),
    attentionSoftcap: null,
    finalSoftcap,
    qkNorm: true,
    ...(tied !== undefined && { tied }),
  });
}

interface GemmaTraits {
  readonly forms: StoredForms;
  /** Rotation of full layers and, if it differs, of sliding layers. */
  readonly ropes: (headDim: number) => readonly [Rope, Rope?];
  /** Without layer_types, every `slidesEvery`-th layer is full and the others slide. */
  readonly slidesEvery: number;
  readonly attentionSoftcap: number | null;
  readonly finalSoftcap: number | undefined;
  readonly qkNorm: boolean;
  /** Overrides tie_word_embeddings. */
  readonly tied?: boolean;
}

function gemma(config: ConfigReader, has: HasTensor, traits: GemmaTraits): Architecture {
  if (config.flag('use_bidirectional_attention', false)) {
    throw config.unsupported(
      'use_bidirectional_attention',
      'is true: such a model does not predict next tokens',
      'Choose a model that generates text.',
    );
  }
  // transformers reads hidden_activation instead.
  config.knows('hidden_act');
  const dimensions = readDimensions(config, 256);
  requireEvenHeads(config, dimensions.headDim);
  const { layers, hidden, headDim } = dimensions;
  const tiedEmbeddings = traits.tied ?? config.flag('tie_word_embeddings', true);
  const bias = config.flag('attention_bias', false);
  const [whole, local] = traits.ropes(headDim);
  const kinds = layerKinds(config, layers, layer =>
    (layer + 1) % traits.slidesEvery === 0 ? 'full_attention' : 'sliding_attention',
  );
  const logitForm: LogitForm = traits.finalSoftcap === undefined ? {} : { softcap: traits.finalSoftcap };
  const form = storedForm(traits.forms, 'embed_tokens.weight', has);
  const parts = { qkvBias: bias, outBias: bias, qkNorm: traits.qkNorm };
  return decoder(config, dimensions, {
    norm: { kind: 'rms', eps: config.positive('rms_norm_eps'), offset: 1 },
    qkNorm: traits.qkNorm ? 'head' : null,
    // transformers rounds the factor to its number type.
    embeddingScale: Math.fround(Math.sqrt(hidden)),
    tiedEmbeddings,
    activation: readActivation(config, 'hidden_activation', 'gelu_pytorch_tanh'),
    attentionScale: config.positive('query_pre_attn_scalar', 256) ** -0.5,
    attentionSoftcap: traits.attentionSoftcap,
    ropes: local ? [whole, local] : [whole],
    layerRope: kinds.map(kind => (local && kind === 'sliding_attention' ? 1 : 0)),
    attentionWindow: windowsOf(config, kinds, 4096),
    logitForm,
    configLists: { layer_types: kinds },
    tensorNames: namesInForm(form, { layers, tiedEmbeddings }, at => sandwich(at, llamaLayer(at, parts))),
  });
}

/** A layer with a norm before and after each branch. */
const sandwich = (at: string, names: LayerTensorNames): LayerTensorNames => ({
  ...names,
  attentionOutNorm: `${at}.post_attention_layernorm.weight`,
  mlpNorm: `${at}.pre_feedforward_layernorm.weight`,
  mlpOutNorm: `${at}.post_feedforward_layernorm.weight`,
});

/** Reads a cap: a missing field means the default, an explicit null means no cap. */
function cap(config: ConfigReader, field: string, defaultCap: number | undefined): number | undefined {
  if (!config.has(field)) return defaultCap;
  return config.get(field) === undefined ? undefined : config.positive(field);
}

function gemma3Ropes(config: ConfigReader, headDim: number): readonly [Rope, Rope] {
  const contextLength = config.count('max_position_embeddings');
  const parameters = config.object('rope_parameters');
  const old = config.object('rope_scaling');
  const settings = (kind: string) => parameters.object(kind);
  return [
    readRope(config, {
      headDim,
      contextLength,
      theta: config.positive('rope_theta', 1_000_000),
      scaling: old.isEmpty ? settings('full_attention') : old,
    }),
    readRope(config, {
      headDim,
      contextLength,
      theta: config.positive('rope_local_base_freq', 10_000),
      scaling: settings('sliding_attention'),
    }),
  ];
}
