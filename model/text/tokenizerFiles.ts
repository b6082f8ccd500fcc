import { RmError } from '../../engine/index.js';
import { jsonOf, type ModelSource, requiredTextOf } from '../checkpoint/modelSource.js';
import { isRecord, parseJson } from '../files/jsonFile.js';

type Json = Readonly<Record<string, unknown>>;

/** A tokenizer's files, and their names for messages. */
export interface TokenizerFiles {
  nameOf(file: string): string;
  /** tokenizer.json, as it is and parsed. */
  readonly text: string;
  readonly definition: Json;
  /** tokenizer_config.json, special_tokens_map.json and added_tokens.json; empty where the model lacks them. */
  readonly settings: Json;
  readonly tokenMap: Json;
  readonly addedTokens: Json;
}

function objectOf(value: unknown, path: string): Json {
  if (isRecord(value)) return value;
  throw new RmError('CONFIG_INVALID', `${path}: is not a JSON object`, 'Download the file again.');
}

/** One of a model's JSON files; an empty object if the model lacks it. @throws RmError CONFIG_INVALID. */
export const optionalJson = async (source: ModelSource, file: string): Promise<Json> =>
  objectOf((await jsonOf(source, file)) ?? {}, source.nameOf(file));

/** Reads a model's tokenizer files. @throws RmError CHECKPOINT_MISSING without tokenizer.json, CONFIG_INVALID. */
export async function readTokenizerFiles(source: ModelSource): Promise<TokenizerFiles> {
  const text = await requiredTextOf(source, 'tokenizer.json');
  const path = source.nameOf('tokenizer.json');
  return {
    nameOf: file => source.nameOf(file),
    ...{ text, definition: objectOf(parseJson(text, path), path) },
    settings: await optionalJson(source, 'tokenizer_config.json'),
    tokenMap: await optionalJson(source, 'special_tokens_map.json'),
    addedTokens: await optionalJson(source, 'added_tokens.json'),
  };
}
