/**
 * What GGUF calls the families, their tensors and their sizes, beside what Hugging Face calls them. Data: the reader, the
 * writer and `convert` work with any row. Source: gguf-py (constants.py, tensor_mapping.py), convert_hf_to_gguf.py.
 */
import type { NumberType } from './values.js';

/** A field of the metadata (after "<architecture>.") and of config.json that say the same. */
export interface GgufField {
  readonly key: string;
  readonly config: string;
  readonly type: NumberType;
  /** Of config.json where the metadata lack it; absent: it is required. Null: it stays out of config.json. */
  readonly fallback?: number | null;
}

export interface GgufFamily {
  /** general.architecture. */
  readonly architecture: string;
  /** model_type and architectures of config.json. */
  readonly modelType: string;
  readonly className: string;
  /** Tensors of a layer: after "blk.N." beside after "model.layers.N.", both without ".weight" or ".bias". */
  readonly layerTensors: Readonly<Record<string, string>>;
  readonly fields: readonly GgufField[];
  /** Fields of config.json that hold for every model of the family. */
  readonly constants: Readonly<Record<string, unknown>>;
  /** Whether rows of q and k are in llama.cpp's order: pairs that rotate together side by side. */
  readonly permuted: boolean;
  /** Flags of config.json that say whether there are biases, and the tensor of a layer that tells. */
  readonly biasFlags: Readonly<Record<string, string>>;
}

const llamaTensors = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
} as const;

const headNorms = { attn_q_norm: 'self_attn.q_norm', attn_k_norm: 'self_attn.k_norm' } as const;

const sizes: readonly GgufField[] = [
  { key: 'context_length', config: 'max_position_embeddings', type: 'u32' },
  { key: 'embedding_length', config: 'hidden_size', type: 'u32' },
  { key: 'attention.layer_norm_rms_epsilon', config: 'rms_norm_eps', type: 'f32' },
  { key: 'rope.freq_base', config: 'rope_theta', type: 'f32', fallback: 10_000 },
];

export const ggufFamilies: readonly GgufFamily[] = [
  {
    architecture: 'llama',
    modelType: 'llama',
    className: 'LlamaForCausalLM',
    layerTensors: llamaTensors,
    fields: sizes,
    constants: { hidden_act: 'silu' },
    permuted: true,
    biasFlags: { attention_bias: 'attn_q', mlp_bias: 'ffn_gate' },
  },
  {
    architecture: 'qwen2',
    modelType: 'qwen2',
    className: 'Qwen2ForCausalLM',
    layerTensors: llamaTensors,
    fields: sizes,
    constants: { hidden_act: 'silu', use_sliding_window: false },
    permuted: false,
    biasFlags: {},
  },
  {
    architecture: 'qwen3',
    modelType: 'qwen3',
    className: 'Qwen3ForCausalLM',
    layerTensors: { ...llamaTensors, ...headNorms },
    fields: sizes,
    constants: { hidden_act: 'silu', use_sliding_window: false },
    permuted: false,
    biasFlags: { attention_bias: 'attn_q' },
  },
];

/** Tensors outside the layers: GGUF's names beside Hugging Face's. */
const outerTensors: Readonly<Record<string, string>> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};

/** Factors of the rotation frequencies, which config.json has as numbers (rope scaling of Llama 3.1). */
export const ROPE_FACTORS = 'rope_freqs.weight';

const reversed = (names: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(names).map(([a, b]) => [b, a]));

const lookUp = (names: Readonly<Record<string, string>>, name: string): string | undefined =>
  Object.hasOwn(names, name) ? names[name] : undefined;

const LAYER_PREFIXES = { gguf: 'blk.', huggingFace: 'model.layers.' } as const;

function translate(
  name: string,
  [from, to]: readonly [string, string],
  layerNames: Readonly<Record<string, string>>,
  outerNames: Readonly<Record<string, string>>,
): string | undefined {
  const [, stem = '', kind = ''] = /^(.*)\.(weight|bias)$/.exec(name) ?? [];
  const [, layer, part = ''] = stem.startsWith(from)
    ? (/^(\d+)\.(.*)$/.exec(stem.slice(from.length)) ?? [])
    : [];
  const found = layer === undefined ? lookUp(outerNames, stem) : lookUp(layerNames, part);
  if (found === undefined) return undefined;
  return layer === undefined ? `${found}.${kind}` : `${to}${layer}.${found}.${kind}`;
}

/** Hugging Face's name of a GGUF tensor; undefined for one that the family does not have. */
export const huggingFaceName = (family: GgufFamily, name: string): string | undefined =>
  translate(name, [LAYER_PREFIXES.gguf, LAYER_PREFIXES.huggingFace], family.layerTensors, outerTensors);

/** GGUF's name of a Hugging Face tensor; undefined for one that the family does not have. */
export const ggufName = (family: GgufFamily, name: string): string | undefined =>
  translate(
    name,
    [LAYER_PREFIXES.huggingFace, LAYER_PREFIXES.gguf],
    reversed(family.layerTensors),
    reversed(outerTensors),
  );

/** The layer of a GGUF tensor, and its name with another number. */
export function ggufLayerOf(name: string): { layer: number; renumbered: (to: number) => string } | undefined {
  const [, layer, rest] = /^blk\.(\d+)(\..*)$/.exec(name) ?? [];
  return layer === undefined
    ? undefined
    : { layer: Number(layer), renumbered: to => `${LAYER_PREFIXES.gguf}${to}${rest}` };
}
