import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseJsonText } from '../../engine/index.js';
import { isRecord } from '../files/jsonFile.js';
import { type FileKind, type FolderKind, headOf } from '../files/outputKind.js';
import { isReportName, reportFiles } from './reportFiles.js';

/** A GGUF file of a version that exists. */
export const ggufFile: FileKind = {
  name: 'a GGUF file',
  isOne: path => [1, 2, 3].some(version => headOf(path, 8) === `GGUF${String.fromCharCode(version)}\0\0\0`),
};

const weights = /^model(-\d{5}-of-\d{5})?\.safetensors$/;

/** Files of a model beside its weights: those that transformers and its kin read, cards and licences. */
const others = [
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json$/,
  /^(preprocessor_config|processor_config|image_processor_config|chat_template)\.json$/,
  /^(video_preprocessor_config|tekken|modules|config_sentence_transformers|sentence_bert_config)\.json$/,
  /^(vocab\.txt|merges\.txt|chat_template\.jinja|[\w.-]+\.tiktoken|tokenizer\.model\.v\d+)$/,
  /^(tokenizer|spiece|spm|sentencepiece(\.bpe)?|source|target)\.model$/,
  // Code that `auto_map` may name, which others run.
  /^(modeling|configuration|tokenization|processing|image_processing|generation)_\w+\.py$/,
  // Parts of a sentence-transformers model.
  /^\d+_\w+\/config\.json$/,
  /^additional_chat_templates\/[^/]+\.jinja$/,
  /^README(\.base)*\.md$/,
  /^(LICEN[CS]E|NOTICE|USE_POLICY|COPYING)[\w.-]*$/i,
];

/** Folders of a model's folder that may have such files. */
export const isCompanionFolder = (name: string): boolean =>
  /^(additional_chat_templates|\d+_\w+)$/.test(name);

/** Whether a file belongs to a model beside its weights and reports. @param name its path within the folder, with slashes. */
export const isCompanion = (name: string): boolean => others.some(part => part.test(name));

const parts = [weights, /^model\.safetensors\.index\.json$/, ...others];

/**
 * A folder with a model's config.json and safetensors weights, and nothing that is not part of a model.
 *
 * @param source the folder of the model that the output is made from: what equals a file of it is part of a model, too.
 */
export const modelFolder = (source?: string): FolderKind => ({
  name: 'a model folder',
  isOne: folder =>
    namesAModel(join(folder, 'config.json')) && readdirSync(folder).some(name => weights.test(name)),
  holds(name, path) {
    if (isReportName(name)) return reportFiles[name].isOne(path);
    return (
      parts.some(part => part.test(name)) || (source !== undefined && areEqual(join(source, name), path))
    );
  },
});

function namesAModel(path: string): boolean {
  try {
    const config: unknown = parseJsonText(readFileSync(path, 'utf8'));
    return isRecord(config) && (typeof config.model_type === 'string' || Array.isArray(config.architectures));
  } catch {
    return false;
  }
}

function areEqual(a: string, b: string): boolean {
  try {
    return existsSync(a) && statSync(a).size === statSync(b).size && readFileSync(a).equals(readFileSync(b));
  } catch {
    return false;
  }
}
