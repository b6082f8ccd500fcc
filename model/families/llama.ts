import type { Architecture, LayerTensorNames } from '../architecture.js';
import { type ConfigReader, statedDtype } from './configReader.js';
import { readRope } from './rope.js';

/**
 * Llama 1 to 3.x and what is built the same way (SmolLM, TinyLlama ...): grouped queries, RMSNorm before attention and
 * MLP, SwiGLU, RoPE on whole heads. Source: transformers/models/llama.
 */
export function llama(config: ConfigReader): Architecture {
  const attentionBias = config.flag('attention_bias', false);
  return build(config, attentionBias, config.flag('mlp_bias', false));
}

/** Mistral without (or with an idle) sliding window is a Llama without biases. */
export function mistral(config: ConfigReader): Architecture {
  const arch = build(config, false, false);
  // A missing field means 4096 in transformers, an explicit null means no window.
  const window = config.has('sliding_window') ? config.get('sliding_window') : 4096;
  if (window !== undefined && config.count('sliding_window', 4096) < arch.contextLength) {
    throw config.unsupported(
      'sliding_window',
      `limits attention to ${window} of ${arch.contextLength} positions, which is not supported`,
      'Choose a model with full attention.',
    );
  }
  return arch;
}

function layerNames(layer: number, attentionBias: boolean, mlpBias: boolean): LayerTensorNames {
  const at = `model.layers.${layer}`;
  const bias = (wanted: boolean, name: string) => (wanted ? `${at}.${name}.bias` : null);
  return {
    inputNorm: `${at}.input_layernorm.weight`,
    q: `${at}.self_attn.q_proj.weight`,
    k: `${at}.self_attn.k_proj.weight`,
    v: `${at}.self_attn.v_proj.weight`,
    o: `${at}.self_attn.o_proj.weight`,
    qBias: bias(attentionBias, 'self_attn.q_proj'),
    kBias: bias(attentionBias, 'self_attn.k_proj'),
    vBias: bias(attentionBias, 'self_attn.v_proj'),
    oBias: bias(attentionBias, 'self_attn.o_proj'),
    postNorm: `${at}.post_attention_layernorm.weight`,
    gate: `${at}.mlp.gate_proj.weight`,
    up: `${at}.mlp.up_proj.weight`,
    down: `${at}.mlp.down_proj.weight`,
    gateBias: bias(mlpBias, 'mlp.gate_proj'),
    upBias: bias(mlpBias, 'mlp.up_proj'),
    downBias: bias(mlpBias, 'mlp.down_proj'),
  };
}

function build(config: ConfigReader, attentionBias: boolean, mlpBias: boolean): Architecture {
  const layers = config.count('num_hidden_layers');
  if (layers > 10_000) throw config.invalid('num_hidden_layers', `is ${layers}, more than any model has`);
  const hidden = config.count('hidden_size');
  const heads = config.count('num_attention_heads');
  const kvHeads = config.count('num_key_value_heads', heads);
  if (config.get('head_dim') === undefined && hidden % heads !== 0) {
    throw config.invalid('hidden_size', `${hidden} is not a multiple of num_attention_heads ${heads}`);
  }
  const headDim = config.count('head_dim', hidden / heads);
  if (headDim % 2 !== 0) throw config.invalid('head_dim', `is ${headDim}, but RoPE needs an even number`);
  if (heads % kvHeads !== 0) {
    throw config.invalid('num_key_value_heads', `${kvHeads} does not divide num_attention_heads ${heads}`);
  }
  const activation = config.text('hidden_act', 'silu');
  if (activation !== 'silu' && activation !== 'swish') {
    const problem = `is ${JSON.stringify(activation)}; supported is silu (also called swish)`;
    throw config.unsupported('hidden_act', problem, 'Choose a model with this activation.');
  }
  const contextLength = config.count('max_position_embeddings');
  const tiedEmbeddings = config.flag('tie_word_embeddings', false);
  const embedding = 'model.embed_tokens.weight';
  return {
    family: config.text('model_type'),
    layers,
    hidden,
    intermediate: config.count('intermediate_size'),
    heads,
    kvHeads,
    headDim,
    vocab: config.count('vocab_size'),
    contextLength,
    normEps: config.positive('rms_norm_eps'),
    tiedEmbeddings,
    qkvBias: attentionBias,
    outBias: attentionBias,
    mlpBias,
    activation: 'silu',
    attentionScale: headDim ** -0.5,
    rope: readRope(config, { headDim, contextLength }),
    attentionWindow: new Array<null>(layers).fill(null),
    logitForm: {},
    tensorNames: {
      embedding,
      finalNorm: 'model.norm.weight',
      lmHead: tiedEmbeddings ? embedding : 'lm_head.weight',
      layers: Array.from({ length: layers }, (_, layer) => layerNames(layer, attentionBias, mlpBias)),
    },
    dtype: statedDtype(config),
  };
}
