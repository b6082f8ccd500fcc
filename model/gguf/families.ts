/**
 * Maps llama.cpp's names of families, tensors and sizes to those of Hugging Face. Reader, writer and `convert` work with any
 * row of the table. Source: gguf-py (constants.py, tensor_mapping.py), llama.cpp's converters (conversion/) and models
 * (src/models/).
 */
import type { GgufFamily, GgufField } from './family.js';

/** Tensors with factors of the rotation frequencies: for all sequences, or for short and long ones. config.json lists them. */
export const ropeFactorTensors = {
  all: 'rope_freqs.weight',
  short: 'rope_factors_short.weight',
  long: 'rope_factors_long.weight',
} as const;

const isRopeFactors = new Set<string>(Object.values(ropeFactorTensors));

/** Whether a tensor holds rotation factors. */
export const holdsRopeFactors = (name: string): boolean => isRopeFactors.has(name);

const { all, short, long } = ropeFactorTensors;

const field = (
  key: string,
  config: string,
  of: GgufField['of'],
  more: Partial<GgufField> = {},
): GgufField => ({ key, config, of, type: 'f32', ...more });

const theta = field('rope.freq_base', 'rope_theta', ({ ropes }) => ropes[0]?.theta, { fallback: 10_000 });
const rmsEps = field('attention.layer_norm_rms_epsilon', 'rms_norm_eps', ({ norm }) => norm.eps);
const sizes: readonly GgufField[] = [
  field('context_length', 'max_position_embeddings', arch => arch.contextLength, { type: 'u32' }),
  field('embedding_length', 'hidden_size', arch => arch.hidden, { type: 'u32' }),
];

const attention = {
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
} as const;
const gatedMlp = { ffn_gate: 'mlp.gate_proj', ffn_up: 'mlp.up_proj', ffn_down: 'mlp.down_proj' } as const;
const preNorms = { attn_norm: 'input_layernorm', ffn_norm: 'post_attention_layernorm' } as const;
const qkNorms = { attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' } as const;

const qkvBiases = ['attn_q', 'attn_k', 'attn_v'] as const;
const allBiases = [...qkvBiases, 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'] as const;

/** Like Llama, but without its row order. */
const base = {
  outerTensors: { token_embd: 'model.embed_tokens', output_norm: 'model.norm', output: 'lm_head' },
  layerPrefix: 'model.layers.',
  layerTensors: { ...attention, ...gatedMlp, ...preNorms },
  biases: [],
  rowOrders: {},
  ropeFactors: [],
  gainOffset: 0,
  needsOutput: false,
  fields: [...sizes, rmsEps, theta],
  sizes: {
    intermediate: 'intermediate_size',
    kvHeads: 'num_key_value_heads',
    headDim: 'head_dim',
    rotated: null,
  },
  constants: () => ({ hidden_act: 'silu' }),
  flags: {},
} as const satisfies Partial<GgufFamily>;

const pairs = { attn_q: 'queryPairs', attn_k: 'keyPairs' } as const;
const attentionBias = { attention_bias: ['attn_q.bias', true, false] } as const;
const llamaBiases = { ...attentionBias, mlp_bias: ['ffn_gate.bias', true, false] } as const;

/** llama.cpp derives a Gemma's attention scale from its number of layers: the largest model's differs. */
const gemmaScale =
  (largest: number): GgufFamily['constants'] =>
  ({ layers, hidden, heads, headDim }) => ({
    hidden_activation: 'gelu_pytorch_tanh',
    query_pre_attn_scalar: layers === largest ? Math.floor(hidden / heads) : headDim,
    attention_bias: false,
  });

const gemma = {
  ...base,
  layerTensors: {
    ...attention,
    ...gatedMlp,
    attn_norm: 'input_layernorm',
    post_attention_norm: 'post_attention_layernorm',
    ffn_norm: 'pre_feedforward_layernorm',
    post_ffw_norm: 'post_feedforward_layernorm',
  },
  gainOffset: 1,
} as const satisfies Partial<GgufFamily>;

const finalCap = (fallback: number | null) =>
  field('final_logit_softcapping', 'final_logit_softcapping', ({ logitForm }) => logitForm.softcap, {
    fallback,
    zeroIsNone: true,
  });

const layerNormed = {
  ...base,
  gainOffset: 0,
  rowOrders: { attn_qkv: 'groups' },
  constants: () => ({}),
} as const satisfies Partial<GgufFamily>;

const falcon = {
  ...layerNormed,
  architecture: 'falcon',
  modelType: 'falcon',
  className: 'FalconForCausalLM',
  outerTensors: {
    token_embd: 'transformer.word_embeddings',
    output_norm: 'transformer.ln_f',
    output: 'lm_head',
  },
  layerPrefix: 'transformer.h.',
  biases: ['attn_norm', 'attn_norm_2', 'output_norm'],
  fields: [
    ...sizes,
    field('attention.layer_norm_epsilon', 'layer_norm_epsilon', ({ norm }) => norm.eps),
    theta,
  ],
  sizes: { intermediate: 'ffn_hidden_size', kvHeads: 'num_kv_heads', headDim: null, rotated: null },
} as const satisfies Partial<GgufFamily>;

const falconTensors = {
  attn_qkv: 'self_attention.query_key_value',
  attn_output: 'self_attention.dense',
  ffn_up: 'mlp.dense_h_to_4h',
  ffn_down: 'mlp.dense_4h_to_h',
} as const;

const falconConstants = {
  alibi: false,
  bias: false,
  parallel_attn: true,
  multi_query: true,
  activation: 'gelu',
} as const;

/** Within an architecture, rows with a mark come before the row without one. */
export const ggufFamilies: readonly GgufFamily[] = [
  {
    ...base,
    architecture: 'llama',
    mark: 'ffn_gate_inp',
    modelType: 'mixtral',
    className: 'MixtralForCausalLM',
    layerTensors: {
      ...attention,
      ...preNorms,
      ffn_gate_inp: 'block_sparse_moe.gate',
      ffn_gate_exps: 'block_sparse_moe.experts.*.w1',
      ffn_up_exps: 'block_sparse_moe.experts.*.w3',
      ffn_down_exps: 'block_sparse_moe.experts.*.w2',
    },
    rowOrders: pairs,
    ropeFactors: [all, short, long],
    fields: [
      ...base.fields,
      field('expert_count', 'num_local_experts', ({ experts }) => experts?.count, { type: 'u32' }),
      field('expert_used_count', 'num_experts_per_tok', ({ experts }) => experts?.perToken, { type: 'u32' }),
    ],
    constants: () => ({ hidden_act: 'silu', sliding_window: null }),
  },
  {
    ...base,
    architecture: 'llama',
    modelType: 'llama',
    className: 'LlamaForCausalLM',
    // Mistral has Llama's tensors and sizes, and llama.cpp has no separate name for it.
    alsoWrites: ['mistral'],
    biases: allBiases,
    rowOrders: pairs,
    ropeFactors: [all, short, long],
    flags: llamaBiases,
  },
  {
    ...base,
    architecture: 'qwen2',
    modelType: 'qwen2',
    className: 'Qwen2ForCausalLM',
    biases: qkvBiases,
    constants: () => ({ hidden_act: 'silu', use_sliding_window: false }),
  },
  {
    ...base,
    architecture: 'qwen3',
    modelType: 'qwen3',
    className: 'Qwen3ForCausalLM',
    layerTensors: { ...base.layerTensors, ...qkNorms },
    constants: () => ({ hidden_act: 'silu', use_sliding_window: false, attention_bias: false }),
  },
  {
    ...base,
    architecture: 'smollm3',
    modelType: 'smollm3',
    className: 'SmolLM3ForCausalLM',
    rowOrders: pairs,
    constants: () => ({ hidden_act: 'silu', use_sliding_window: false, no_rope_layer_interval: 4 }),
  },
  {
    ...base,
    architecture: 'granite',
    modelType: 'granite',
    className: 'GraniteForCausalLM',
    biases: allBiases,
    rowOrders: pairs,
    ropeFactors: [all, short, long],
    fields: [
      ...base.fields,
      field('logit_scale', 'logits_scaling', ({ logitForm }) => 1 / (logitForm.factor ?? 1)),
      field('residual_scale', 'residual_multiplier', arch => arch.residualScale, {
        fallback: 1,
        zeroIsNone: true,
      }),
      field('embedding_scale', 'embedding_multiplier', arch => arch.embeddingScale, {
        fallback: 1,
        zeroIsNone: true,
      }),
      field('attention.scale', 'attention_multiplier', arch => arch.attentionScale, {
        fallback: ({ headDim }) => headDim ** -0.5,
        zeroIsNone: true,
      }),
    ],
    flags: llamaBiases,
  },
  {
    ...base,
    architecture: 'olmo2',
    modelType: 'olmo2',
    className: 'Olmo2ForCausalLM',
    layerTensors: {
      ...attention,
      ...gatedMlp,
      ...qkNorms,
      post_attention_norm: 'post_attention_layernorm',
      post_ffw_norm: 'post_feedforward_layernorm',
    },
    needsOutput: true,
    constants: () => ({ hidden_act: 'silu', attention_bias: false }),
  },
  {
    ...base,
    architecture: 'phi3',
    modelType: 'phi3',
    className: 'Phi3ForCausalLM',
    layerTensors: {
      ...preNorms,
      attn_qkv: 'self_attn.qkv_proj',
      attn_output: 'self_attn.o_proj',
      ffn_up: 'mlp.gate_up_proj',
      ffn_down: 'mlp.down_proj',
    },
    fields: [
      ...base.fields,
      field('attention.sliding_window', 'sliding_window', arch => arch.attentionWindow[0] ?? 0, {
        type: 'u32',
        fallback: null,
        zeroIsNone: true,
      }),
    ],
    ropeFactors: [short, long],
    sizes: { ...base.sizes, headDim: null, rotated: 'partial_rotary_factor' },
  },
  {
    ...gemma,
    architecture: 'gemma2',
    modelType: 'gemma2',
    className: 'Gemma2ForCausalLM',
    // Its head is the embedding.
    outerTensors: { token_embd: 'model.embed_tokens', output_norm: 'model.norm' },
    fields: [
      ...base.fields,
      field('attn_logit_softcapping', 'attn_logit_softcapping', arch => arch.attentionSoftcap ?? undefined, {
        fallback: 50,
      }),
      finalCap(30),
    ],
    sliding: { every: 2, window: 4096 },
    constants: gemmaScale(46),
  },
  {
    ...gemma,
    architecture: 'gemma3',
    modelType: 'gemma3_text',
    className: 'Gemma3ForCausalLM',
    // The language model of a Gemma 3 that also reads images.
    alsoWrites: ['gemma3'],
    layerTensors: { ...gemma.layerTensors, ...qkNorms },
    fields: [
      ...base.fields,
      field('rope.freq_base_swa', 'rope_local_base_freq', ({ ropes }) => (ropes[1] ?? ropes[0])?.theta, {
        fallback: 10_000,
      }),
      finalCap(null),
    ],
    sliding: { every: 6, window: null },
    constants: gemmaScale(62),
  },
  {
    ...falcon,
    mark: 'attn_norm_2',
    layerTensors: { ...falconTensors, attn_norm: 'ln_mlp', attn_norm_2: 'ln_attn' },
    constants: () => ({
      ...falconConstants,
      new_decoder_architecture: true,
      num_ln_in_parallel_attn: 2,
    }),
  },
  {
    ...falcon,
    layerTensors: { ...falconTensors, attn_norm: 'input_layernorm' },
    // With one group, or a group for each head, both forms of the architecture are the same.
    constants: () => ({
      ...falconConstants,
      new_decoder_architecture: true,
      num_ln_in_parallel_attn: 1,
    }),
  },
  {
    ...layerNormed,
    architecture: 'gptneox',
    modelType: 'gpt_neox',
    className: 'GPTNeoXForCausalLM',
    outerTensors: {
      token_embd: 'gpt_neox.embed_in',
      output_norm: 'gpt_neox.final_layer_norm',
      output: 'embed_out',
    },
    layerPrefix: 'gpt_neox.layers.',
    layerTensors: {
      ...preNorms,
      attn_qkv: 'attention.query_key_value',
      attn_output: 'attention.dense',
      ffn_up: 'mlp.dense_h_to_4h',
      ffn_down: 'mlp.dense_4h_to_h',
    },
    biases: ['attn_norm', 'ffn_norm', 'attn_qkv', 'attn_output', 'ffn_up', 'ffn_down', 'output_norm'],
    needsOutput: true,
    fields: [
      ...sizes,
      field('attention.layer_norm_epsilon', 'layer_norm_eps', ({ norm }) => norm.eps),
      { ...theta, config: 'rotary_emb_base' },
      field('use_parallel_residual', 'use_parallel_residual', arch => arch.parallel, { type: 'bool' }),
    ],
    sizes: { intermediate: 'intermediate_size', kvHeads: null, headDim: null, rotated: 'rotary_pct' },
    constants: () => ({ hidden_act: 'gelu', attention_bias: true }),
  },
];
