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

/** Files that a model folder has: those that transformers writes, cards and licences. */
const parts = [
  weights,
  /^model\.safetensors\.index\.json$/,
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json$/,
  /^(preprocessor_config|processor_config|image_processor_config|chat_template)\.json$/,
  /^(tokenizer\.model|vocab\.txt|merges\.txt|chat_template\.jinja)$/,
  /^additional_chat_templates\/[^/]+\.jinja$/,
  /^README(\.base)*\.md$/,
  /^(LICENSE|LICENCE|NOTICE|USE_POLICY)(\.(txt|md))?$/,
];

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
