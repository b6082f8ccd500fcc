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
  /** False where the model has none; renderChat then throws. */
  readonly available: boolean;
  /**
   * The text of a conversation; `addGenerationPrompt` (default false) opens the assistant's next turn.
   * It contains the special tokens: encode it with addSpecialTokens false, or BOS comes twice.
   * Throws CONFIG_INVALID without a template, DATA_INVALID where the template refuses the messages.
   */
  renderChat(messages: readonly ChatMessage[], options?: { addGenerationPrompt?: boolean }): string;
}

/** chat_template.jinja, else chat_template of tokenizer_config.json: a string, or a list of {name, template}. */
async function templateSource(model: ModelSource): Promise<{ path: string; source: string } | undefined> {
  const file = 'chat_template.jinja';
  const text = await model.text(file);
  if (text !== undefined) return { path: model.nameOf(file), source: text };
  const path = model.nameOf('tokenizer_config.json');
  const settings = await jsonOf(model, 'tokenizer_config.json');
  const stated = isRecord(settings) ? (settings.chat_template ?? undefined) : undefined;
  if (stated === undefined) return undefined;
  if (typeof stated === 'string') return { path, source: stated };
  const named = Array.isArray(stated) ? stated.filter(isRecord) : [];
  const chosen = named.find(({ name }) => name === 'default') ?? (named.length === 1 ? named[0] : undefined);
  if (typeof chosen?.template === 'string') return { path, source: chosen.template };
  const names = named.map(({ name }) => String(name)).join(', ');
  throw new RmError(
    'CONFIG_INVALID',
    `${path}: "chat_template" has no template called "default"${names ? `, only ${names}` : ''}`,
    'Write the one to use to chat_template.jinja beside it.',
  );
}

/** The chat template of a model. Throws CONFIG_INVALID where there is one that cannot be parsed. */
export async function loadChatTemplate(
  model: string,
  tokenizer: Pick<Tokenizer, 'specialTokens'>,
): Promise<ChatTemplate> {
  const found = await templateSource(await openModelSource(model));
  if (!found) {
    const error = new RmError(
      'CONFIG_INVALID',
      `${model}: the model has no chat template, so conversations cannot be written as it expects`,
      'Use plain text instead of messages, or put a chat_template.jinja into the folder.',
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
    template = new Template(found.source);
  } catch (error) {
    throw new RmError(
      'CONFIG_INVALID',
      `${found.path}: the chat template cannot be parsed: ${(error as Error).message}`,
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
          `${found.path}: the chat template refuses these messages: ${(error as Error).message}`,
          'Check the roles and their order (system first, then user and assistant in turn).',
          { cause: error },
        );
      }
    },
  };
}

/** Token ids of a document: text with the tokenizer's special tokens, a conversation through the chat template. */
export function encodeDocument(document: Document, tokenizer: Tokenizer, chat: ChatTemplate): number[] {
  return 'text' in document
    ? tokenizer.encode(document.text)
    : tokenizer.encode(chat.renderChat(document.messages), { addSpecialTokens: false });
}
