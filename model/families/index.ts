import { checkArguments, RmError, text } from '../../engine/index.js';
import { type Architecture, expectedTensors } from '../architecture/architecture.js';
import { maybeFunction } from '../arguments/forms.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import type { WeightDtype } from '../checkpoint/inDtype.js';
import { plainNumbers } from '../files/exactJson.js';
import { isRecord } from '../files/jsonFile.js';
import { apertus } from './apertus.js';
import { arcee } from './arcee.js';
import { clip, clipVision } from './clip.js';
import { cohere, cohere2 } from './cohere.js';
import { type Compression, compressionFields, readCompression } from './compression.js';
import { ConfigReader, statedDtype } from './configReader.js';
import type { HasTensor } from './decoder.js';
import { falcon } from './falcon.js';
import { gemma2, gemma3Multimodal, gemma3Text } from './gemma.js';
import { gptNeox } from './gptNeox.js';
import { gptOss } from './gptOss.js';
import { granite, graniteHybrid } from './granite.js';
import { hunyuanDense } from './hunyuan.js';
import { ernie4_5, glm, glm4, helium } from './interleaved.js';
import { phi, stablelm, starcoder2 } from './layerNormed.js';
import { lfm2 } from './lfm2.js';
import { llama } from './llama.js';
import { ministral3, mistral } from './mistral.js';
import { mixtral } from './mixtral.js';
import { refuseOtherTasks, unknownClass } from './modelClass.js';
import { exaone4, olmo2, olmo3 } from './normsAfter.js';
import { explainMissing, refuseStoredTwice } from './otherNames.js';
import { phi3 } from './phi3.js';
import { cutConfig, untiedConfig } from './pruneConfig.js';
import { qwen2, qwen2_5VlText, qwen3, qwen3VlText } from './qwen.js';
import { qwen3_5Text } from './qwen3_5.js';
import { qwen2Moe, qwen3Moe } from './qwenMoe.js';
import { seedOss } from './seedOss.js';
import { siglip, siglipVision } from './siglip.js';
import { smollm3 } from './smollm3.js';
import { sortUnread, type UnknownFields } from './unknownFields.js';
import { vit } from './vit.js';
import { mistral3, qwen2_5Vl, qwen3_5, qwen3Vl, smolvlm } from './wrapped.js';

/** "model_type" in config.json -> the family's reader. */
const families: Readonly<Record<string, (config: ConfigReader, has: HasTensor) => Architecture>> = {
  llama,
  gpt_oss: gptOss,
  smollm3,
  mistral,
  ministral3,
  mistral3,
  mixtral,
  qwen2,
  qwen2_5_vl: qwen2_5Vl,
  qwen2_5_vl_text: qwen2_5VlText,
  qwen3,
  qwen2_moe: qwen2Moe,
  qwen3_moe: qwen3Moe,
  qwen3_vl: qwen3Vl,
  qwen3_vl_text: qwen3VlText,
  qwen3_5,
  qwen3_5_text: qwen3_5Text,
  lfm2,
  smolvlm,
  idefics3: smolvlm,
  seed_oss: seedOss,
  arcee,
  apertus,
  helium,
  ernie4_5,
  glm,
  glm4,
  cohere,
  cohere2,
  hunyuan_v1_dense: hunyuanDense,
  phi,
  phi3,
  gemma2,
  gemma3: gemma3Multimodal,
  gemma3_text: gemma3Text,
  olmo2,
  olmo3,
  exaone4,
  granite,
  granitemoehybrid: graniteHybrid,
  starcoder2,
  stablelm,
  falcon,
  gpt_neox: gptNeox,
  clip,
  clip_vision_model: clipVision,
  siglip,
  siglip_vision_model: siglipVision,
  vit,
};

/** The supported values of "model_type" in config.json. */
export const supportedFamilies: readonly string[] = Object.keys(families);

/**
 * Reads the architecture from a parsed config.json, with the key names of transformers 4 or 5.
 *
 * @param path appears in messages only.
 * @param has tells whether the checkpoint has a tensor, for families with several naming schemes; without it, the default
 *   names are used.
 * @throws RmError CONFIG_INVALID naming the field, UNSUPPORTED_FAMILY for a model that cannot be computed.
 */
export function architectureFromConfig(config: unknown, path: string, has?: HasTensor): Architecture {
  checkArguments('architectureFromConfig', { path, has }, { path: text, has: maybeFunction });
  return readConfig(config, path, has).arch;
}

/**
 * The fields of a parsed config.json that nothing reads, in the object that describes the layers: those that may change what
 * the model computes, and others. Throws what architectureFromConfig throws.
 */
export function unknownFields(config: unknown, path: string): UnknownFields {
  const { reader, arch } = readConfig(config, path, undefined);
  return sortUnread(arch.configPath.reduce((at, key) => at.object(key), reader).unread());
}

function readConfig(
  config: unknown,
  path: string,
  has: HasTensor,
): { arch: Architecture; reader: ConfigReader } {
  if (!isRecord(config)) {
    throw new RmError('CONFIG_INVALID', `${path}: is not a JSON object`, 'Give the config.json of a model.');
  }
  const reader = new ConfigReader(config, path);
  const modelType = reader.text('model_type');
  const family = Object.hasOwn(families, modelType) ? families[modelType] : undefined;
  if (!family) {
    throw reader.unsupported(
      'model_type',
      `is ${JSON.stringify(modelType)}; supported are ${supportedFamilies.join(', ')}`,
      'Choose a model of one of these families.',
    );
  }
  readCompression(reader);
  if (reader.get('transformers_weights') !== undefined) {
    throw reader.unsupported(
      'transformers_weights',
      'names the weights to read, which is not supported',
      'Rename that file to model.safetensors (or its index to model.safetensors.index.json), and leave the field out.',
    );
  }
  refuseOtherTasks(reader);
  return { arch: family(reader, has), reader };
}

/** How weights are compressed, and the number type that they have in the model: what config.json states, else bf16. */
export interface CompressedWeights {
  readonly compression: Compression;
  readonly dtype: WeightDtype;
}

/**
 * Reads from a parsed config.json how weights are compressed; undefined if they are not.
 *
 * @throws RmError UNSUPPORTED_FAMILY, CONFIG_INVALID.
 */
export function compressedWeights(config: unknown, path: string): CompressedWeights | undefined {
  if (!isRecord(config)) return undefined;
  const reader = new ConfigReader(config, path);
  const compression = readCompression(reader);
  if (!compression) return undefined;
  const { text_config: text } = config;
  const dtype = statedDtype(reader) ?? (isRecord(text) ? statedDtype(new ConfigReader(text, path)) : null);
  return { compression, dtype: dtype === null || dtype === 'u32' ? 'bf16' : dtype };
}

/** Whether a folder with this parsed config.json stores the matrices of all experts as one tensor (checkpoint/fusedExperts.ts). */
export const storesExpertsTogether = (config: unknown): boolean =>
  isRecord(config) && config.model_type === 'gpt_oss';

/** The config.json (also by parseExactJson) of a model whose weights are written whole. */
export const withoutCompression = (config: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(config)
      .filter(([key]) => !compressionFields.some(field => field === key))
      .map(([key, value]) => [
        key,
        key === 'text_config' && isRecord(value) ? withoutCompression(value) : value,
      ]),
  );

/** A warning where config.json names a class that may be no language model. */
export const classWarnings = (config: unknown, path: string): string[] =>
  isRecord(config) ? unknownClass(new ConfigReader(config, path)) : [];

/**
 * Cuts a parsed config.json (also by parseExactJson) to the layers `keepLayers` (old indices, ascending); see cutConfig.
 *
 * @throws RmError INVALID_ARGUMENT for invalid layers; what architectureFromConfig throws.
 */
export const pruneConfig = (
  config: Record<string, unknown>,
  keepLayers: readonly number[],
): Record<string, unknown> =>
  cutConfig(config, keepLayers, changed => architectureFromConfig(plainNumbers(changed), 'config.json'));

/** The config.json (also by parseExactJson) of a model whose head may have weights of its own against its config.json. */
export function withHead(
  config: Record<string, unknown>,
  { tiedEmbeddings, configPath, vision }: Architecture,
): Record<string, unknown> {
  if (tiedEmbeddings || vision) return config;
  const stated = architectureFromConfig(plainNumbers(config), 'config.json');
  return stated.tiedEmbeddings ? untiedConfig(config, configPath) : config;
}

/**
 * Checks that the checkpoint has every tensor the architecture needs, once, in the shape that config.json implies.
 *
 * @throws RmError CHECKPOINT_CORRUPT naming the tensor, both shapes and the file; UNSUPPORTED_DTYPE.
 */
export function checkShapes(arch: Architecture, checkpoint: Checkpoint): void {
  const fix = 'config.json and the weights do not match: download the model again.';
  refuseStoredTwice(arch, checkpoint);
  for (const { name, shape } of expectedTensors(arch)) {
    if (!checkpoint.has(name)) {
      const { problem, fix: mend } = explainMissing(name, arch, checkpoint);
      const message = `${checkpoint.path}: tensor ${name} [${shape}] is missing: ${problem}`;
      throw new RmError('CHECKPOINT_CORRUPT', message, mend);
    }
    const { shape: storedShape, dtype } = checkpoint.info(name);
    if (dtype === 'u32') {
      throw new RmError(
        'UNSUPPORTED_DTYPE',
        `${checkpoint.path}: tensor ${name} holds integers (U32), not weights`,
        'Use the original f32, f16 or bf16 weights of the model.',
      );
    }
    if (storedShape.length !== shape.length || storedShape.some((size, axis) => size !== shape[axis])) {
      throw new RmError(
        'CHECKPOINT_CORRUPT',
        `${checkpoint.path}: tensor ${name} has shape [${storedShape}], but config.json implies [${shape}]`,
        fix,
      );
    }
  }
}
