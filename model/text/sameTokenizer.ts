import { isDeepStrictEqual } from 'node:util';
import { openModelSource } from '../source/openModelSource.js';
import { readSpecialTokens } from './addedTokens.js';
import { readTokenizerFiles } from './tokenizerFiles.js';

/** The parts of tokenizer.json that decide on token ids; padding, truncation and decoding do not. */
const parts = ['model', 'added_tokens', 'normalizer', 'pre_tokenizer', 'post_processor'];

/**
 * Whether two models turn texts into the same token ids, judged by their tokenizer files.
 *
 * @throws RmError CHECKPOINT_MISSING, CONFIG_INVALID as loadTokenizer.
 */
export async function sameTokenizer(model: string, other: string): Promise<boolean> {
  const filesOf = async (path: string) => readTokenizerFiles(await openModelSource(path));
  const [a, b] = [await filesOf(model), await filesOf(other)];
  return (
    parts.every(part => isDeepStrictEqual(a.definition[part], b.definition[part])) &&
    isDeepStrictEqual(readSpecialTokens(a).added, readSpecialTokens(b).added)
  );
}
