import type { ChatTemplateOptions } from '../../model/text/chat.js';
import type { TextReader } from '../../model/text/textReader.js';

/** Opens the tokenizer and chat template of a model; loads the library's function when called. */
export async function openTextReader(folder: string, date: ChatTemplateOptions): Promise<TextReader> {
  const { openTextReader } = await import('../../model/text/textReader.js');
  return openTextReader(folder, date);
}
