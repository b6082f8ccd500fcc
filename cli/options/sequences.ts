import type { ChatTemplate } from '../../model/text/chat.js';
import type { Document } from '../../model/text/documents.js';
import type { Tokenizer } from '../../model/text/tokenizer.js';

export interface TextTools {
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
}

/** Tokenizer and chat template of a model folder. */
export async function loadTextTools(folder: string): Promise<TextTools> {
  const [{ loadTokenizer }, { loadChatTemplate }] = await Promise.all([
    import('../../model/text/tokenizer.js'),
    import('../../model/text/chat.js'),
  ]);
  const tokenizer = await loadTokenizer(folder);
  return { tokenizer, chat: await loadChatTemplate(folder, tokenizer) };
}

/** Token sequences of one text file. */
export async function fileSequences(
  path: string,
  { tokenizer, chat }: TextTools,
  options: { textField?: string; sequenceLength: number; tokens?: number },
): Promise<number[][]> {
  const [{ readDocuments }, { tokenSequences }] = await Promise.all([
    import('../../model/text/documents.js'),
    import('../../model/text/tokenSequences.js'),
  ]);
  const documents: AsyncIterable<Document> = readDocuments(path, { textField: options.textField });
  return tokenSequences(documents, tokenizer, chat, options);
}
