import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { byteTokenizer } from '../bench/byteTokenizer.js';
import { dataPath } from './support.js';

/** A tiny model of test/data/families, its config.json changed to what a GGUF file can say. */
export interface GgufCase {
  readonly family: string;
  readonly config?: Readonly<Record<string, unknown>>;
  /** A layer whose removal leaves a model that a GGUF file can say (default: 1). */
  readonly remove?: number;
}

const everyLayer = { use_sliding_window: false, layer_types: null } as const;

/** Of four layers: only each sixth of a Gemma 3 sees everything. */
const everyKind = (kind: 'sliding' | 'full') => new Array<string>(4).fill(`${kind}_attention`);

const threeOfFour = [...everyKind('sliding').slice(1), 'full_attention'];

/** An even number of columns, which the model of the family has not. */
const turned = {
  rope_parameters: { rope_type: 'default', rope_theta: 1000, partial_rotary_factor: 2 / 3 },
} as const;

export const ggufCases: Readonly<Record<string, GgufCase>> = {
  llama: { family: 'llama' },
  mistral: { family: 'mistral', config: { sliding_window: null } },
  mixtral: { family: 'mixtral', config: { sliding_window: null } },
  qwen2: { family: 'qwen2', config: everyLayer },
  'qwen2-yarn': {
    family: 'qwen2',
    config: {
      ...everyLayer,
      rope_parameters: {
        rope_type: 'yarn',
        factor: 4,
        original_max_position_embeddings: 16,
        rope_theta: 1e4,
      },
    },
  },
  qwen3: { family: 'qwen3', config: { ...everyLayer, attention_bias: false } },
  qwen2_moe: { family: 'qwen2_moe', config: everyLayer },
  qwen3_moe: {
    family: 'qwen3_moe-normed',
    config: { use_sliding_window: false, sliding_window: null },
  },
  smollm3: {
    family: 'smollm3',
    config: { ...everyLayer, no_rope_layers: null, no_rope_layer_interval: 4 },
    remove: 3,
  },
  granite: { family: 'granite' },
  olmo2: { family: 'olmo2', config: { attention_bias: false } },
  // llama.cpp does without its window.
  phi3: { family: 'phi3', config: { sliding_window: null } },
  gemma2: { family: 'gemma2', config: { query_pre_attn_scalar: 12 }, remove: 3 },
  gemma3: { family: 'gemma3', config: { query_pre_attn_scalar: 8, layer_types: everyKind('sliding') } },
  'gemma3 without windows': {
    family: 'gemma3',
    config: { query_pre_attn_scalar: 8, layer_types: everyKind('full') },
  },
  'gemma3-multimodal': {
    family: 'gemma3-multimodal',
    config: { text_config: { query_pre_attn_scalar: 8, layer_types: everyKind('sliding') } },
  },
  falcon: { family: 'falcon', config: { bias: false } },
  'falcon-grouped': { family: 'falcon-grouped' },
  phi: { family: 'phi' },
  lfm2: {
    family: 'lfm2',
    config: { block_auto_adjust_ff_dim: false, intermediate_size: 32 },
    remove: 2,
  },
  neox: { family: 'neox', config: turned },
  'neox in turn': { family: 'neox', config: { ...turned, use_parallel_residual: false } },
};

/** Families whose tensors and settings take the ways of those above: llama.cpp alone reads them. */
export const likeOtherCases: Readonly<Record<string, GgufCase>> = {
  mistral3: { family: 'mistral3' },
  ministral3: { family: 'ministral3', config: { sliding_window: null } },
  'mistral3-growing': { family: 'mistral3-growing' },
  smolvlm: { family: 'smolvlm' },
  idefics3: { family: 'idefics3' },
  seed_oss: { family: 'seed_oss', config: { attention_out_bias: false } },
  arcee: { family: 'arcee', config: { attention_bias: false, mlp_bias: false } },
  ernie4_5: { family: 'ernie4_5', config: { use_bias: false } },
  hunyuan: { family: 'hunyuan', config: { attention_bias: false } },
  glm: { family: 'glm' },
  glm4: { family: 'glm4' },
  cohere: { family: 'cohere', config: { attention_bias: false } },
  cohere2: { family: 'cohere2', config: { layer_types: threeOfFour }, remove: 3 },
  olmo3: {
    family: 'olmo3',
    config: {
      attention_bias: false,
      layer_types: threeOfFour,
      rope_parameters: {
        full_attention: {
          rope_type: 'yarn',
          rope_theta: 5e5,
          factor: 4,
          original_max_position_embeddings: 16,
        },
        sliding_attention: { rope_type: 'default', rope_theta: 5e5 },
      },
    },
    remove: 3,
  },
  exaone4: { family: 'exaone4-whole' },
  starcoder2: { family: 'starcoder2', config: { sliding_window: null } },
  stablelm: { family: 'stablelm' },
  'stablelm-parallel': { family: 'stablelm-parallel' },
};

type Json = Record<string, unknown>;

/** Fields put over those of the same name, objects within objects too. */
function over(config: Json, change: Readonly<Json>): Json {
  const isObject = (value: unknown): value is Json =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  const changed = Object.entries(change).map(([key, value]) => {
    const old = config[key];
    return [key, key === 'text_config' && isObject(old) && isObject(value) ? over(old, value) : value];
  });
  return { ...config, ...Object.fromEntries(changed) };
}

/** Writes the model of a case into a new folder, with a tokenizer of its 64 tokens. */
export function writeGgufCase(folder: string, { family, config = {} }: GgufCase): void {
  mkdirSync(folder, { recursive: true });
  const from = dataPath('families', family);
  copyFileSync(join(from, 'model.safetensors'), join(folder, 'model.safetensors'));
  const text = over(JSON.parse(readFileSync(join(from, 'config.json'), 'utf8')) as Json, config);
  writeFileSync(join(folder, 'config.json'), JSON.stringify(text));
  writeSmallTokenizer(folder, 64);
}

/** Writes a tokenizer of at most 64 tokens, each a letter. */
export function writeSmallTokenizer(folder: string, tokens: number): void {
  const write = (name: string, value: unknown) => writeFileSync(join(folder, name), JSON.stringify(value));
  const letters = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789', 'Ġ', 'Ċ'].slice(
    0,
    tokens,
  );
  const { model, ...tokenizer } = byteTokenizer() as { model: Json };
  const vocab = Object.fromEntries(letters.map((letter, id) => [letter, id]));
  write('tokenizer.json', { ...tokenizer, added_tokens: [], model: { ...model, vocab } });
  write('tokenizer_config.json', { tokenizer_class: 'PreTrainedTokenizerFast' });
}
