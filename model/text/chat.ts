import { Template } from '@huggingface/jinja';
import { RmError } from '../../engine/index.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { jsonOf } from '../checkpoint/modelSource.js';
import { isRecord } from '../files/jsonFile.js';
import { printedNumbers } from '../files/pythonJson.js';
import { openModelSource } from '../source/openModelSource.js';
import type { ChatMessage, Conversation } from './conversation.js';
import type { Document } from './documents.js';
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
  renderChat(messages: readonly ChatMessage[], options?: RenderOptions): string;
}

/** What a chat template is given besides the turns. */
export interface RenderOptions extends Omit<Conversation, 'messages'> {
  readonly addGenerationPrompt?: boolean;
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
    renderChat: (messages, { addGenerationPrompt = false, tools, documents } = {}) => {
      try {
        return template.render({
          ...tokenizer.specialTokens,
          messages: messages.map(message => ({ ...message })),
          ...(tools && { tools }),
          ...(documents && { documents }),
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

/**
 * A conversation as its chat template writes it, with numbers of its row as Python spells them.
 *
 * @throws RmError DATA_INVALID naming the row, where the template rejects it.
 */
export function renderConversation(
  { messages, where, ...beside }: Exclude<Document, { text: string }>,
  chat: ChatTemplate,
): string {
  try {
    return printedNumbers(chat.renderChat(messages, beside));
  } catch (error) {
    if (!(error instanceof RmError) || error.code !== 'DATA_INVALID' || where === undefined) throw error;
    throw new RmError(error.code, `${where}: ${error.message}`, error.fix, { cause: error });
  }
}

/** Encodes a document: plain text with the tokenizer's special tokens, a conversation through the chat template. */
export function encodeDocument(document: Document, tokenizer: Tokenizer, chat: ChatTemplate): number[] {
  return 'text' in document
    ? tokenizer.encode(document.text)
    : tokenizer.encode(renderConversation(document, chat), { addSpecialTokens: false });
}
