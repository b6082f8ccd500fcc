import { asF32 } from '../../engine/dtype.js';
import { RmError } from '../../engine/errors.js';
import { ropeInverseFrequencies } from '../rope.js';
import { type GgufFamily, ggufFamilies, ROPE_FACTORS } from './families.js';
import type { GgufFile } from './file.js';
import { corruptGguf, type GgufTensor } from './header.js';
import { GgufMetadata } from './metadata.js';

/** Settings that change what a model computes and that no family in families.ts has. */
const unread = [
  ...[
    'expert_count',
    'expert_used_count',
    'attn_logit_softcapping',
    'final_logit_softcapping',
    'logit_scale',
  ],
  ...[
    'embedding_scale',
    'residual_scale',
    'attention.scale',
    'attention.clamp_kqv',
    'attention.max_alibi_bias',
  ],
  ...['use_parallel_residual', 'attention.sliding_window'],
];

const unsupported = (message: string, fix: string) => new RmError('UNSUPPORTED_FAMILY', message, fix);

/** The family of a file's architecture. Throws CONFIG_INVALID, UNSUPPORTED_FAMILY. */
export function familyOf(file: Pick<GgufFile, 'metadata' | 'path'>): GgufFamily {
  const metadata = new GgufMetadata(file.metadata, file.path);
  if ((metadata.count('split.count', 0) ?? 1) > 1) {
    throw unsupported(
      `${file.path}: is one part of a model in ${metadata.count('split.count')} files`,
      'Join the parts first: llama-gguf-split --merge FIRST-PART OUT.gguf.',
    );
  }
  const name = metadata.text('general.architecture');
  if (name === undefined) throw metadata.invalid('general.architecture', 'is missing');
  const family = ggufFamilies.find(({ architecture }) => architecture === name);
  if (!family) {
    throw unsupported(
      `${file.path}: general.architecture is ${JSON.stringify(name)}; of GGUF files ${ggufFamilies.map(({ architecture }) => architecture).join(', ')} are supported`,
      "Choose a model of one of these families, or give the model's Hugging Face folder.",
    );
  }
  const context = metadata.number(`${name}.context_length`) ?? 0;
  for (const key of unread) {
    const full = `${name}.${key}`;
    const value = metadata.get(full)?.value;
    const idle = [undefined, 0, false].includes(value as never);
    if (idle || (key === 'attention.sliding_window' && (value as number) >= context)) continue;
    throw unsupported(
      `${file.path}: metadata "${full}" changes what the model computes in a way that is not supported`,
      "Choose another model of the family, or give the model's Hugging Face folder.",
    );
  }
  return family;
}

/** The shortest decimal number that rounds to this f32: 1e-5 is stored as 9.999999747378752e-06. */
export function shortestF32(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

const required = (metadata: GgufMetadata, key: string, value: number | undefined): number => {
  if (value === undefined) throw metadata.invalid(key, 'is missing');
  return value;
};

/** What config.json says in "rope_scaling"; undefined where frequencies are not scaled. */
async function ropeScaling(
  file: GgufFile,
  metadata: GgufMetadata,
  rope: { theta: number; rotaryDim: number; contextLength: number; factors: GgufTensor | undefined },
): Promise<Record<string, unknown> | undefined> {
  const at = `${metadata.text('general.architecture')}.rope`;
  const kind = metadata.text(`${at}.scaling.type`) ?? 'none';
  const factor = metadata.number(`${at}.scaling.factor`) ?? metadata.number(`${at}.scale_linear`);
  if (rope.factors) return factorScaling(file, rope.factors, rope);
  if (kind === 'linear' || (kind === 'none' && (factor ?? 1) !== 1)) {
    return { rope_type: 'linear', factor: factor ?? 1 };
  }
  if (kind === 'none') return undefined;
  return {
    rope_type: kind,
    ...(factor !== undefined && { factor }),
    original_max_position_embeddings: metadata.count(`${at}.scaling.original_context_length`),
  };
}

/** Lengths that models with llama3 scaling were first trained for. */
const originalContexts = [8192, 4096, 2048, 16_384, 32_768];

/**
 * The scaling that gives the factors in the file, which has no other settings: of llama3 the largest factor is "factor"
 * and the rest is tried; where that does not fit, the factors themselves, which config.json can say as longrope.
 */
async function factorScaling(
  file: GgufFile,
  tensor: GgufTensor,
  { theta, rotaryDim, contextLength }: { theta: number; rotaryDim: number; contextLength: number },
): Promise<Record<string, unknown>> {
  if (tensor.type.name !== 'F32' || tensor.shape.length !== 1 || tensor.shape[0] !== rotaryDim / 2) {
    throw corruptGguf(`${file.path}: tensor ${ROPE_FACTORS} is no list of ${rotaryDim / 2} F32 factors`);
  }
  const factors = asF32(await file.read(tensor.begin, tensor.end - tensor.begin));
  const factor = Math.max(...factors);
  const plain = ropeInverseFrequencies({ kind: 'default', theta, rotaryDim });
  const original = originalContexts.find(originalContext => {
    const settings = { factor, lowFreqFactor: 1, highFreqFactor: 4, originalContext };
    const scaled = ropeInverseFrequencies({ kind: 'llama3', theta, rotaryDim, ...settings });
    return factors.every((value, i) => Math.abs(plain[i]! / scaled[i]! / value - 1) < 1e-5);
  });
  return original === undefined
    ? {
        rope_type: 'longrope',
        short_factor: [...factors],
        long_factor: [...factors],
        attention_factor: 1,
        original_max_position_embeddings: contextLength,
      }
    : {
        rope_type: 'llama3',
        factor,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: original,
      };
}

/** Ids of special tokens: config.json's and generation_config.json's names beside the metadata's. */
export const tokenIdKeys: Readonly<Record<string, string>> = {
  bos_token_id: 'tokenizer.ggml.bos_token_id',
  eos_token_id: 'tokenizer.ggml.eos_token_id',
  pad_token_id: 'tokenizer.ggml.padding_token_id',
  unk_token_id: 'tokenizer.ggml.unknown_token_id',
};

/** The special tokens' ids that the metadata state. */
export function statedTokenIds(metadata: GgufMetadata): Record<string, number> {
  const ids: Record<string, number> = {};
  for (const [name, key] of Object.entries(tokenIdKeys)) {
    const id = metadata.count(key, 0);
    // Older converters wrote 2^32 - 1 for "none".
    if (id !== undefined && id < 0xffffffff) ids[name] = id;
  }
  return ids;
}

/**
 * The config.json that the model of a file would have. Throws CONFIG_INVALID naming the key, UNSUPPORTED_FAMILY,
 * CHECKPOINT_CORRUPT.
 */
export async function configOfGguf(file: GgufFile): Promise<Record<string, unknown>> {
  const family = familyOf(file);
  const metadata = new GgufMetadata(file.metadata, file.path);
  const key = (name: string) => `${family.architecture}.${name}`;
  const need = (name: string, value: number | undefined) => required(metadata, key(name), value);
  const tensors = new Map(file.tensors.map(tensor => [tensor.name, tensor]));
  const fields: Record<string, unknown> = {};
  for (const { key: name, config, type, fallback } of family.fields) {
    const value = type === 'f32' ? metadata.number(key(name)) : metadata.count(key(name));
    const found = value ?? (fallback === undefined ? need(name, undefined) : fallback);
    if (found !== null) fields[config] = type === 'f32' ? shortestF32(found) : found;
  }
  const hidden = fields.hidden_size as number;
  const heads = need('attention.head_count', metadata.uniformCount(key('attention.head_count')));
  const headDim = metadata.count(key('attention.key_length')) ?? hidden / heads;
  const valueDim = metadata.count(key('attention.value_length')) ?? headDim;
  if (valueDim !== headDim) {
    throw unsupported(
      `${file.path}: keys have ${headDim} numbers a head, values ${valueDim}`,
      'Choose a model whose keys and values are of one size.',
    );
  }
  if (!Number.isInteger(headDim)) {
    throw metadata.invalid(key('embedding_length'), `${hidden} is not a multiple of ${heads} heads`);
  }
  const rotated = metadata.count(key('rope.dimension_count')) ?? headDim;
  const theta = fields.rope_theta as number;
  const scaling = await ropeScaling(file, metadata, {
    ...{ theta, rotaryDim: rotated, contextLength: fields.max_position_embeddings as number },
    factors: tensors.get(ROPE_FACTORS),
  });
  return {
    architectures: [family.className],
    model_type: family.modelType,
    ...fields,
    intermediate_size: need('feed_forward_length', metadata.uniformCount(key('feed_forward_length'))),
    num_hidden_layers: need('block_count', metadata.count(key('block_count'))),
    num_attention_heads: heads,
    num_key_value_heads: metadata.uniformCount(key('attention.head_count_kv')) ?? heads,
    head_dim: headDim,
    ...(rotated !== headDim && { partial_rotary_factor: rotated / headDim }),
    ...(scaling && { rope_scaling: scaling }),
    vocab_size:
      tensors.get('token_embd.weight')?.shape[0] ?? need('vocab_size', metadata.count(key('vocab_size'))),
    tie_word_embeddings: !tensors.has('output.weight'),
    ...family.constants,
    ...Object.fromEntries(
      Object.entries(family.biasFlags).map(([flag, part]) => [flag, tensors.has(`blk.0.${part}.bias`)]),
    ),
    ...statedTokenIds(metadata),
    torch_dtype:
      { F32: 'float32', BF16: 'bfloat16' }[tensors.get('blk.0.attn_output.weight')?.type.name ?? ''] ??
      'float16',
  };
}
