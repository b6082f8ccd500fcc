import {
  checkArguments,
  ensure,
  type Form,
  isRecord,
  listOf,
  objectWith,
  optional,
  RmError,
  record,
  text,
} from '../../engine/index.js';
import { aChat, aPath, aTokenizer, settingsAmong } from '../arguments/forms.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { askPython } from '../jinja/python.js';
import { TemplateFailure } from '../jinja/templateFailure.js';
import { openModelSource } from '../source/openModelSource.js';
import { type NamedTemplate, type NamedTemplates, readTemplates } from './chatTemplateFiles.js';
import type { ChatMessage, Conversation } from './conversation.js';
import { FIXED_DATE, isDate } from './date.js';
import type { Document } from './documents.js';
import type { Tokenizer } from './tokenizer.js';

/** A model's own way of writing a conversation as text. */
export interface ChatTemplate {
  /** False if the model has no template; renderChat then throws. */
  readonly available: boolean;
  /** The date that the template prints, in ISO 8601; null if it prints none. */
  readonly date: string | null;
  /**
   * Renders a conversation as transformers does. The text contains the special tokens: encode it with addSpecialTokens
   * false, or BOS comes twice.
   * @throws RmError CONFIG_INVALID without a template, or for one that is no Jinja or takes too much time or memory;
   *   DATA_INVALID if it rejects the messages.
   */
  renderChat(messages: readonly ChatMessage[], options?: RenderOptions): Promise<string>;
}

/** What a chat template is given besides the turns. */
export interface RenderOptions extends Omit<Conversation, 'messages'> {
  /** Opens the assistant's next turn (default false). */
  readonly addGenerationPrompt?: boolean;
}

/** Settings of `loadChatTemplate`. */
export interface ChatTemplateOptions {
  /** What the template takes for the present: 2024-07-26 or 2024-07-26T15:00 (default: FIXED_DATE). */
  readonly date?: string | undefined;
}

function noTemplate(model: string): ChatTemplate {
  const error = new RmError(
    'CONFIG_INVALID',
    `${model}: the model has no chat template, so conversations cannot be rendered`,
    'Use plain text instead of messages, or add a chat_template.jinja to the folder.',
  );
  return { available: false, date: null, renderChat: () => Promise.reject(error) };
}

/** As transformers chooses: "tool_use" for conversations with tools, else "default". */
function choose(model: ModelSource, templates: NamedTemplates, { tools }: RenderOptions) {
  const chosen = (tools && templates.get('tool_use')) ?? templates.get('default');
  if (chosen) return chosen;
  throw new RmError(
    'CONFIG_INVALID',
    `${model.path}: the model has no chat template called "default", only ${[...templates.keys()].join(', ')}`,
    'Save the template to use as chat_template.jinja in the folder of the model.',
  );
}

/** The failure of a template in this file. */
function rmError(path: string, cause: TemplateFailure): RmError {
  const { message, reason } = cause;
  if (reason === 'render') {
    return new RmError(
      'DATA_INVALID',
      `${path}: the chat template rejects these messages: ${message}`,
      'Check the roles and their order (system first, then user and assistant in turn).',
      { cause },
    );
  }
  return reason === 'syntax'
    ? new RmError(
        'CONFIG_INVALID',
        `${path}: the chat template cannot be parsed: ${message}`,
        'Download the file again.',
        { cause },
      )
    : new RmError(
        'CONFIG_INVALID',
        `${path}: the chat template was stopped: ${message}`,
        'Correct the template, or save another as chat_template.jinja.',
        { cause },
      );
}

/** The shortest conversation, which shows whether a template can be rendered at all. */
const probe: readonly ChatMessage[] = [{ role: 'user', content: 'Hi' }];

/**
 * Loads a model's chat template, and tries it on a conversation of one message.
 *
 * @throws RmError CONFIG_INVALID if the files that hold it cannot be read, or if it is no Jinja or takes too much time or
 *   memory; INVALID_ARGUMENT.
 */
export async function loadChatTemplate(
  model: string,
  tokenizer: Pick<Tokenizer, 'specialTokens'>,
  options: ChatTemplateOptions = {},
): Promise<ChatTemplate> {
  checkArguments(
    'loadChatTemplate',
    { model, tokenizer, options },
    {
      model: aPath,
      tokenizer: objectWith('a tokenizer', 'specialTokens'),
      options: settingsAmong<ChatTemplateOptions>({ date: optional(text) }),
    },
  );
  const { date = FIXED_DATE } = options;
  ensure(
    isDate(date),
    `the date ${JSON.stringify(date)} is none`,
    'Give one such as 2024-07-26, or with its time 2024-07-26T15:00.',
  );
  const source = await openModelSource(model);
  const templates = await readTemplates(source);
  if (templates.size === 0) return noTemplate(model);
  const render = async (
    { path, text }: NamedTemplate,
    messages: readonly ChatMessage[],
    { addGenerationPrompt = false, tools, documents }: RenderOptions,
  ): Promise<string> => {
    const fields = {
      ...tokenizer.specialTokens,
      ...{ messages, tools: tools ?? null, documents: documents ?? null },
      add_generation_prompt: addGenerationPrompt,
    };
    try {
      return (await askPython({ kind: 'chat', source: text, fields, date })) as string;
    } catch (error) {
      throw error instanceof TemplateFailure ? rmError(path, error) : error;
    }
  };
  for (const template of templates.values()) {
    await render(template, probe, { addGenerationPrompt: true }).catch(error => {
      // It may want other messages.
      if (!(error instanceof RmError) || error.code !== 'DATA_INVALID') throw error;
    });
  }
  const printsDate = [...templates.values()].some(({ text }) => text.includes('strftime_now'));
  return {
    available: true,
    date: printsDate ? date : null,
    renderChat: async (messages, options = {}) =>
      render(choose(source, templates, options), messages, options),
  };
}

/** A conversation as its chat template writes it. @throws RmError DATA_INVALID naming the row, where it is rejected. */
export async function renderConversation(
  { messages, where, ...beside }: Exclude<Document, { text: string }>,
  chat: ChatTemplate,
): Promise<string> {
  try {
    return await chat.renderChat(messages, beside);
  } catch (error) {
    if (!(error instanceof RmError) || error.code !== 'DATA_INVALID' || where === undefined) throw error;
    throw new RmError(error.code, `${where}: ${error.message}`, error.fix, { cause: error });
  }
}

/** A document has a text, or turns of a conversation. */
const aDocument: Form<unknown> = (value, place) =>
  isRecord(value) && 'text' in value
    ? record({ text })(value, place)
    : record({ messages: listOf(record({})) })(value, place);

/** Encodes a document: plain text with the tokenizer's special tokens, a conversation through the chat template. */
export async function encodeDocument(
  document: Document,
  tokenizer: Tokenizer,
  chat: ChatTemplate,
): Promise<number[]> {
  checkArguments(
    'encodeDocument',
    { document, tokenizer, chat },
    { document: aDocument, tokenizer: aTokenizer, chat: aChat },
  );
  return 'text' in document
    ? tokenizer.encode(document.text)
    : tokenizer.encode(await renderConversation(document, chat), { addSpecialTokens: false });
}
