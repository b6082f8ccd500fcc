import { isDeepStrictEqual } from 'node:util';
import { requiredJsonOf } from '../checkpoint/modelSource.js';
import { isRecord } from '../files/jsonFile.js';
import { openModelSource } from './openModelSource.js';

/** The parts of tokenizer.json that decide on token ids; padding, truncation and decoding do not. */
const parts = ['model', 'added_tokens', 'normalizer', 'pre_tokenizer', 'post_processor'];

/**
 * Whether two models turn texts into the same token ids, judged by their tokenizer.json.
 *
 * @throws RmError CHECKPOINT_MISSING, CONFIG_INVALID if a file is missing or not JSON.
 */
export async function sameTokenizer(model: string, other: string): Promise<boolean> {
  const tokenizerOf = async (path: string) => requiredJsonOf(await openModelSource(path), 'tokenizer.json');
  const [a, b] = [await tokenizerOf(model), await tokenizerOf(other)];
  return isRecord(a) && isRecord(b) && parts.every(part => isDeepStrictEqual(a[part], b[part]));
}
