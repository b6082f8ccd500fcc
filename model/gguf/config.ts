import { RmError } from '../../engine/index.js';
import type { GgufContents } from './contents.js';
import { ggufFamilies } from './families.js';
import type { GgufFamily, GgufField, GgufSizes } from './family.js';
import { GgufMetadata } from './metadata.js';
import { ropeScaling } from './ropeScaling.js';
import { shortestF32 } from './shortestF32.js';
import { SLIDING_WINDOW, slidingLayers } from './slidingLayers.js';

/** Settings that change what a model computes; rejected in a family that does not read them. */
const changing = [
  ...['expert_count', 'expert_used_count', 'attn_logit_softcapping', 'final_logit_softcapping'],
  ...['logit_scale', 'embedding_scale', 'residual_scale', 'attention.scale', 'attention.clamp_kqv'],
  'attention.temperature_scale',
  ...['attention.max_alibi_bias', 'use_parallel_residual', 'rope.freq_base_swa', SLIDING_WINDOW],
  ...['rope.scaling.yarn_ext_factor', 'rope.scaling.yarn_attn_factor', 'rope.scaling.yarn_log_multiplier'],
];

const unsupported = (message: string, fix: string) => new RmError('UNSUPPORTED_FAMILY', message, fix);

/** Finds the family of a file's architecture. @throws RmError CONFIG_INVALID, UNSUPPORTED_FAMILY. */
export function familyOf(file: Pick<GgufContents, 'metadata' | 'path' | 'tensors'>): GgufFamily {
  const metadata = new GgufMetadata(file.metadata, file.path);
  if ((metadata.count('split.count', 0) ?? 1) > 1) {
    throw unsupported(
      `${file.path}: is one part of a model in ${metadata.count('split.count')} files`,
      'Join the parts first: llama-gguf-split --merge FIRST-PART OUT.gguf.',
    );
  }
  const name = metadata.text('general.architecture');
  if (name === undefined) throw metadata.invalid('general.architecture', 'is missing');
  const has = (mark: string) =>
    file.tensors.some(tensor => tensor.name === `blk.0.${mark}.weight`) ||
    metadata.get(`${name}.${mark}`) !== undefined;
  const family = ggufFamilies.find(
    ({ architecture, mark }) => architecture === name && (mark === undefined || has(mark)),
  );
  if (!family) {
    const supported = [...new Set(ggufFamilies.map(({ architecture }) => architecture))];
    throw unsupported(
      `${file.path}: general.architecture is ${JSON.stringify(name)}; GGUF files are supported for ${supported.join(', ')}`,
      "Choose a model of one of these families, or give the model's Hugging Face folder.",
    );
  }
  const context = metadata.number(`${name}.context_length`) ?? 0;
  const read = new Set([...family.fields.map(({ key }) => key), ...(family.sliding ? [SLIDING_WINDOW] : [])]);
  for (const key of changing) {
    if (read.has(key)) continue;
    const full = `${name}.${key}`;
    const value = metadata.get(full)?.value;
    const idle = [undefined, 0, false].includes(value as never);
    if (idle || (key === SLIDING_WINDOW && (value as number) >= context)) continue;
    throw unsupported(
      `${file.path}: metadata "${full}" changes what the model computes in a way that is not supported`,
      "Choose another model of the family, or give the model's Hugging Face folder.",
    );
  }
  return family;
}

/** A number, or one for each layer. */
export const KEY_HEADS = 'attention.head_count_kv';

const required = (metadata: GgufMetadata, key: string, value: number | undefined): number => {
  if (value === undefined) throw metadata.invalid(key, 'is missing');
  return value;
};

/** Ids of special tokens: names in config.json and generation_config.json -> keys in the metadata. */
export const tokenIdKeys: Readonly<Record<string, string>> = {
  bos_token_id: 'tokenizer.ggml.bos_token_id',
  eos_token_id: 'tokenizer.ggml.eos_token_id',
  pad_token_id: 'tokenizer.ggml.padding_token_id',
  unk_token_id: 'tokenizer.ggml.unknown_token_id',
};

/** Reads the special tokens' ids from the metadata. */
export function statedTokenIds(metadata: GgufMetadata): Record<string, number> {
  const ids: Record<string, number> = {};
  for (const [name, key] of Object.entries(tokenIdKeys)) {
    const id = metadata.count(key, 0);
    // Older converters wrote 2^32 - 1 for "none".
    if (id !== undefined && id < 0xffffffff) ids[name] = id;
  }
  return ids;
}

/** Reads the sizes that every model's metadata contain. @throws RmError CONFIG_INVALID, UNSUPPORTED_FAMILY. */
export function sizesOf(
  file: Pick<GgufContents, 'metadata' | 'path'>,
  { architecture, withoutKeys }: GgufFamily,
): GgufSizes {
  const metadata = new GgufMetadata(file.metadata, file.path);
  const key = (name: string) => `${architecture}.${name}`;
  const need = (name: string, value: number | undefined) => required(metadata, key(name), value);
  const layers = need('block_count', metadata.count(key('block_count')));
  const hidden = need('embedding_length', metadata.count(key('embedding_length')));
  const heads = need('attention.head_count', metadata.uniformCount(key('attention.head_count')));
  const kvHeads = metadata.uniformCount(key(KEY_HEADS), withoutKeys !== undefined) ?? heads;
  const headDim = metadata.count(key('attention.key_length')) ?? hidden / heads;
  const valueDim = metadata.count(key('attention.value_length')) ?? headDim;
  if (valueDim !== headDim) {
    throw unsupported(
      `${file.path}: keys have ${headDim} numbers per head, values ${valueDim}`,
      'Choose a model whose keys and values have the same size.',
    );
  }
  if (!Number.isInteger(headDim)) {
    throw metadata.invalid(key('embedding_length'), `${hidden} is not a multiple of ${heads} heads`);
  }
  return { layers, hidden, heads, kvHeads, headDim };
}

function fieldValue(
  metadata: GgufMetadata,
  architecture: string,
  { key, type, fallback, zeroIsNone = false }: GgufField,
  sizes: GgufSizes,
): number | boolean | null {
  const name = `${architecture}.${key}`;
  if (type === 'bool')
    return metadata.flag(name) ?? (fallback === undefined ? required(metadata, name, undefined) : false);
  const stated =
    zeroIsNone && metadata.get(name)?.value === 0
      ? undefined
      : type === 'f32'
        ? metadata.number(name)
        : metadata.count(name);
  if (stated !== undefined) return type === 'f32' ? shortestF32(stated) : stated;
  if (fallback === undefined) return required(metadata, name, undefined);
  return typeof fallback === 'function' ? fallback(sizes) : fallback;
}

/** part / whole, rounded so that share * whole is at least `part`: readers truncate that product to a whole number. */
function share(part: number, whole: number): number {
  const exact = part / whole;
  return exact * whole < part ? exact * (1 + 2 * Number.EPSILON) : exact;
}

/** Fields of config.json about sliding layers. */
function slidingFields(metadata: GgufMetadata, family: GgufFamily, layers: number): Record<string, unknown> {
  const sliding = slidingLayers(metadata, family, layers);
  if (!sliding) return {};
  return {
    layer_types: sliding.slides.map(slides => (slides ? 'sliding_attention' : 'full_attention')),
    ...(sliding.window !== undefined && { sliding_window: sliding.window }),
  };
}

/** Fields of config.json about layers without attention. */
function attendingFields(
  metadata: GgufMetadata,
  { architecture, withoutKeys }: GgufFamily,
  layers: number,
): Record<string, unknown> {
  const key = `${architecture}.${KEY_HEADS}`;
  if (withoutKeys === undefined) return {};
  const heads =
    metadata.get(key)?.type === 'array' ? metadata.list(key, layers, 'number')! : new Array(layers).fill(1);
  return { layer_types: heads.map(count => (count === 0 ? withoutKeys : 'full_attention')) };
}

/**
 * Builds the config.json of a GGUF file's model from its metadata.
 *
 * @throws RmError CONFIG_INVALID naming the key, UNSUPPORTED_FAMILY, CHECKPOINT_CORRUPT.
 */
export async function configOfGguf(file: GgufContents): Promise<Record<string, unknown>> {
  const family = familyOf(file);
  const { architecture, sizes: names } = family;
  const metadata = new GgufMetadata(file.metadata, file.path);
  const key = (name: string) => `${architecture}.${name}`;
  const need = (name: string, value: number | undefined) => required(metadata, key(name), value);
  const tensors = new Map(file.tensors.map(tensor => [tensor.name, tensor]));
  const sizes = sizesOf(file, family);
  const { layers, heads, kvHeads, headDim } = sizes;
  const fields: Record<string, unknown> = {};
  for (const field of family.fields) {
    const value = fieldValue(metadata, architecture, field, sizes);
    if (value !== null && field.config !== null) fields[field.config] = value;
  }
  const rotated = metadata.count(key('rope.dimension_count')) ?? headDim;
  if (rotated !== headDim && names.rotated === null) {
    throw unsupported(
      `${file.path}: only ${rotated} of ${headDim} columns of each head rotate, which is not supported in ${architecture}`,
      "Choose another model of the family, or give the model's Hugging Face folder.",
    );
  }
  const theta = metadata.number(key('rope.freq_base')) ?? 10_000;
  const contextLength = fields.max_position_embeddings as number;
  return {
    architectures: [family.className],
    model_type: family.modelType,
    ...fields,
    [names.intermediate]: need('feed_forward_length', metadata.uniformCount(key('feed_forward_length'))),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    ...(names.kvHeads !== null && { [names.kvHeads]: kvHeads }),
    ...(names.headDim !== null && { [names.headDim]: headDim }),
    ...(names.rotated !== null && { [names.rotated]: share(rotated, headDim) }),
    ...(await ropeScaling(file, metadata, { theta: shortestF32(theta), rotaryDim: rotated, contextLength })),
    ...slidingFields(metadata, family, layers),
    ...attendingFields(metadata, family, layers),
    vocab_size:
      tensors.get('token_embd.weight')?.shape[0] ?? need('vocab_size', metadata.count(key('vocab_size'))),
    tie_word_embeddings: !tensors.has('output.weight'),
    ...family.constants(sizes),
    ...Object.fromEntries(
      Object.entries(family.flags).map(([flag, [tensor, there, missing]]) => [
        flag,
        tensors.has(`blk.0.${tensor}`) ? there : missing,
      ]),
    ),
    ...statedTokenIds(metadata),
    torch_dtype:
      { F32: 'float32', BF16: 'bfloat16' }[
        (tensors.get('blk.0.attn_output.weight') ?? tensors.get('blk.0.ffn_down.weight'))?.type.name ?? ''
      ] ?? 'float16',
  };
}
