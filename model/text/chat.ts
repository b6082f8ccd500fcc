import { Template } from '@huggingface/jinja';
import { RmError } from '../../engine/index.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { jsonOf } from '../checkpoint/modelSource.js';
import { isRecord } from '../files/jsonFile.js';
import { openModelSource } from '../source/openModelSource.js';
import type { ChatMessage, Document } from './documents.js';
import type { Tokenizer } from './tokenizer.js';

/** A model's own way of writing a conversation as text. */
export interface ChatTemplate {
  /** False if the model has no template; renderChat then throws. */
  readonly available: boolean;
  /**
   * Renders a conversation as text; `addGenerationPrompt` (default false) opens the assistant's next turn.
   * The text contains the special tokens: encode it with addSpecialTokens false, or BOS comes twice.
   * @throws RmError CONFIG_INVALID without a template, DATA_INVALID if the template rejects the messages.
   */
  renderChat(messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }): string;
}

/** Reads chat_template.jinja, else "chat_template" in tokenizer_config.json: a string or a list of {name, template}. */
async function templateSource(model: ModelSource): Promise<{ path: string; source: string } | undefined> {
  const file = 'chat_template.jinja';
  const text = await model.text(file);
  if (text !== undefined) return { path: model.nameOf(file), source: text };
  const path = model.nameOf('tokenizer_config.json');
  const settings = await jsonOf(model, 'tokenizer_config.json');
  const value = isRecord(settings) ? (settings.chat_template ?? undefined) : undefined;
  if (value === undefined) return undefined;
  if (typeof value === 'string') return { path, source: value };
  const named = Array.isArray(value) ? value.filter(isRecord) : [];
  const chosen = named.find(({ name }) => name === 'default') ?? (named.length === 1 ? named[0] : undefined);
  if (typeof chosen?.template === 'string') return { path, source: chosen.template };
  const names = named.map(({ name }) => String(name)).join(', ');
  throw new RmError(
    'CONFIG_INVALID',
    `${path}: "chat_template" has no template called "default"${names ? `, only ${names}` : ''}`,
    'Save the template to use as chat_template.jinja beside this file.',
  );
}

/** Loads a model's chat template. @throws RmError CONFIG_INVALID if the template cannot be parsed. */
export async function loadChatTemplate(
  model: string,
  tokenizer: Pick<Tokenizer, 'specialTokens'>,
): Promise<ChatTemplate> {
  const file = await templateSource(await openModelSource(model));
  if (!file) {
    const error = new RmError(
      'CONFIG_INVALID',
      `${model}: the model has no chat template, so conversations cannot be rendered`,
      'Use plain text instead of messages, or add a chat_template.jinja to the folder.',
    );
    return {
      available: false,
      renderChat: () => {
        throw error;
      },
    };
  }
  let template: Template;
  try {
    template = new Template(file.source);
  } catch (error) {
    throw new RmError(
      'CONFIG_INVALID',
      `${file.path}: the chat template cannot be parsed: ${(error as Error).message}`,
      'Download the file again.',
      { cause: error },
    );
  }
  return {
    available: true,
    renderChat: (messages, { addGenerationPrompt = false } = {}) => {
      try {
        return template.render({
          ...tokenizer.specialTokens,
          messages: messages.map(message => ({ ...message })),
          add_generation_prompt: addGenerationPrompt,
        });
      } catch (error) {
        throw new RmError(
          'DATA_INVALID',
          `${file.path}: the chat template rejects these messages: ${(error as Error).message}`,
          'Check the roles and their order (system first, then user and assistant in turn).',
          { cause: error },
        );
      }
    },
  };
}

/** Encodes a document: plain text with the tokenizer's special tokens, a conversation through the chat template. */
export function encodeDocument(document: Document, tokenizer: Tokenizer, chat: ChatTemplate): number[] {
  return 'text' in document
    ? tokenizer.encode(document.text)
    : tokenizer.encode(chat.renderChat(document.messages), { addSpecialTokens: false });
}
