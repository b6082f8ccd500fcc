/** What rows of the table of GGUF families share: fields, names of tensors, biases. */
import type { Architecture, Experts } from '../architecture/architecture.js';
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

export const { all, short, long } = ropeFactorTensors;

export const field = (
  key: string,
  config: string | null,
  of: GgufField['of'],
  more: Partial<GgufField> = {},
): GgufField => ({ key, config, of, type: 'f32', ...more });

export const theta = field('rope.freq_base', 'rope_theta', ({ ropes }) => ropes[0]?.theta, {
  fallback: 10_000,
});
export const rmsEps = (config: string) =>
  field('attention.layer_norm_rms_epsilon', config, ({ norm }) => norm.eps);
export const sizes: readonly GgufField[] = [
  field('context_length', 'max_position_embeddings', arch => arch.contextLength, { type: 'u32' }),
  field('embedding_length', 'hidden_size', arch => arch.hidden, { type: 'u32' }),
];

export const attention = {
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
} as const;
export const gatedMlp = {
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
} as const;
export const preNorms = { attn_norm: 'input_layernorm', ffn_norm: 'post_attention_layernorm' } as const;
export const qkNorms = { attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' } as const;

export const qkvBiases = ['attn_q', 'attn_k', 'attn_v'] as const;
export const allBiases = [...qkvBiases, 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'] as const;

/** Like Llama, but without its row order. */
export const base = {
  outerTensors: { token_embd: 'model.embed_tokens', output_norm: 'model.norm', output: 'lm_head' },
  layerPrefix: 'model.layers.',
  layerTensors: { ...attention, ...gatedMlp, ...preNorms },
  biases: [],
  rowOrders: {},
  ropeFactors: [],
  gainOffset: 0,
  needsOutput: false,
  fields: [...sizes, rmsEps('rms_norm_eps'), theta],
  sizes: {
    intermediate: 'intermediate_size',
    kvHeads: 'num_key_value_heads',
    headDim: 'head_dim',
    rotated: null,
  },
  constants: () => ({ hidden_act: 'silu' }),
  flags: {},
} as const satisfies Partial<GgufFamily>;

const expertCounts = (config: string): readonly GgufField[] => [
  field('expert_count', config, ({ experts }) => experts?.count, { type: 'u32' }),
  field('expert_used_count', 'num_experts_per_tok', ({ experts }) => experts?.perToken, { type: 'u32' }),
];

/** Mixtral's experts. */
export const mixtralExperts = expertCounts('num_local_experts');

/** Qwen's experts, which have a size of their own. */
export const qwenExperts: readonly GgufField[] = [
  ...expertCounts('num_experts'),
  field('expert_feed_forward_length', 'moe_intermediate_size', ({ experts }) => experts?.features, {
    type: 'u32',
  }),
];

export const qwenExpertTensors = {
  ffn_gate_inp: 'mlp.gate',
  ffn_gate_exps: 'mlp.experts.*.gate_proj',
  ffn_up_exps: 'mlp.experts.*.up_proj',
  ffn_down_exps: 'mlp.experts.*.down_proj',
} as const;

/** Whether all layers have experts, weighted by a softmax over these logits, as llama.cpp computes them. */
export const weighsExperts =
  (over: Experts['softmaxOver']) =>
  ({ experts, tensorNames }: Architecture): boolean =>
    experts?.softmaxOver === over && tensorNames.layers.every(({ router }) => router);

export const pairs = { attn_q: 'queryPairs', attn_k: 'keyPairs' } as const;
export const attentionBias = { attention_bias: ['attn_q.bias', true, false] } as const;
export const llamaBiases = { ...attentionBias, mlp_bias: ['ffn_gate.bias', true, false] } as const;

/** llama.cpp derives a Gemma's attention scale from its number of layers: the largest model's differs. */
export const gemmaScale =
  (largest: number): GgufFamily['constants'] =>
  ({ layers, hidden, heads, headDim }) => ({
    hidden_activation: 'gelu_pytorch_tanh',
    query_pre_attn_scalar: layers === largest ? Math.floor(hidden / heads) : headDim,
    attention_bias: false,
  });

export const gemma = {
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

export const finalCap = (fallback: number | null) =>
  field('final_logit_softcapping', 'final_logit_softcapping', ({ logitForm }) => logitForm.softcap, {
    fallback,
    zeroIsNone: true,
  });

export const lateNorms = { post_attention_norm: 'post_attention_layernorm' } as const;

/** Tensors of layers whose norms come after the branches alone, with norms of q and k. */
export const normsAfterOnly = {
  ...attention,
  ...gatedMlp,
  ...qkNorms,
  ...lateNorms,
  post_ffw_norm: 'post_feedforward_layernorm',
} as const;

export const olmo = {
  ...base,
  architecture: 'olmo2',
  layerTensors: normsAfterOnly,
  needsOutput: true,
  constants: () => ({ hidden_act: 'silu', attention_bias: false }),
} as const satisfies Partial<GgufFamily>;

export const glm = {
  ...base,
  layerTensors: { ...attention, ...preNorms, ffn_up: 'mlp.gate_up_proj', ffn_down: 'mlp.down_proj' },
  biases: qkvBiases,
  sizes: { ...base.sizes, rotated: 'partial_rotary_factor' },
  flags: attentionBias,
} as const satisfies Partial<GgufFamily>;

export const layerNormEps = (config: string) =>
  field('attention.layer_norm_epsilon', config, ({ norm }) => norm.eps);
export const parallelResidual = field(
  'use_parallel_residual',
  'use_parallel_residual',
  arch => arch.parallel,
  {
    type: 'bool',
  },
);

export const cohere = {
  ...base,
  // Its head is the embedding.
  outerTensors: { token_embd: 'model.embed_tokens', output_norm: 'model.norm' },
  layerTensors: { ...attention, ...gatedMlp, attn_norm: 'input_layernorm' },
  fields: [
    ...sizes,
    layerNormEps('layer_norm_eps'),
    theta,
    field('logit_scale', 'logit_scale', ({ logitForm }) => logitForm.factor ?? 1),
  ],
  sizes: { ...base.sizes, headDim: null },
  constants: () => ({ hidden_act: 'silu', attention_bias: false, use_qk_norm: false }),
} as const satisfies Partial<GgufFamily>;

export const layerNormed = {
  ...base,
  gainOffset: 0,
  rowOrders: { attn_qkv: 'groups' },
  constants: () => ({}),
} as const satisfies Partial<GgufFamily>;

export const falcon = {
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
  fields: [...sizes, layerNormEps('layer_norm_epsilon'), theta],
  sizes: { intermediate: 'ffn_hidden_size', kvHeads: 'num_kv_heads', headDim: null, rotated: null },
} as const satisfies Partial<GgufFamily>;

export const falconTensors = {
  attn_qkv: 'self_attention.query_key_value',
  attn_output: 'self_attention.dense',
  ffn_up: 'mlp.dense_h_to_4h',
  ffn_down: 'mlp.dense_4h_to_h',
} as const;

export const falconConstants = {
  alibi: false,
  bias: false,
  parallel_attn: true,
  multi_query: true,
  activation: 'gelu',
} as const;
