import { checkArguments, optional, text } from '../../engine/index.js';
import { aPath, settingsAmong } from '../arguments/forms.js';
import { isGgufPath } from '../files/ggufPath.js';
import { type ChatTemplate, type ChatTemplateOptions, loadChatTemplate } from './chat.js';
import { withKnownMarkers } from './templateMarkers.js';
import { loadTokenizer, type Tokenizer } from './tokenizer.js';

/** Turns texts and conversations into the tokens that a model expects. */
export interface TextReader {
  readonly tokenizer: Tokenizer;
  readonly chat: ChatTemplate;
}

/**
 * Opens the tokenizer and the chat template of a model: a folder, a GGUF file or a name in the Hugging Face cache.
 *
 * @throws RmError CHECKPOINT_MISSING, CONFIG_INVALID, as loadTokenizer and loadChatTemplate.
 */
export async function openTextReader(model: string, options: ChatTemplateOptions = {}): Promise<TextReader> {
  checkArguments(
    'openTextReader',
    { model, options },
    { model: aPath, options: settingsAmong<ChatTemplateOptions>({ date: optional(text) }) },
  );
  const tokenizer = await loadTokenizer(model);
  const chat = await loadChatTemplate(model, tokenizer, options);
  return { tokenizer, chat: isGgufPath(model) ? await withKnownMarkers(model, chat, tokenizer) : chat };
}
