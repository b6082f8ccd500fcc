import type { ChatTemplateOptions } from '../../model/text/chat.js';
import type { Document } from '../../model/text/documents.js';
import type { TextReader } from '../../model/text/textReader.js';

/** Opens the tokenizer and chat template of a model; loads the library's function when called. */
export async function openTextReader(folder: string, date: ChatTemplateOptions): Promise<TextReader> {
  const { openTextReader } = await import('../../model/text/textReader.js');
  return openTextReader(folder, date);
}

/** Reads a text file as token sequences. */
export async function fileSequences(
  path: string,
  { tokenizer, chat }: TextReader,
  options: { textField?: string; sequenceLength: number; tokens?: number },
): Promise<number[][]> {
  const [{ readDocuments }, { tokenSequences }] = await Promise.all([
    import('../../model/text/documents.js'),
    import('../../model/text/tokenSequences.js'),
  ]);
  const documents: AsyncIterable<Document> = readDocuments(path, { textField: options.textField });
  return tokenSequences(documents, tokenizer, chat, options);
}
