import { type ChatTemplate, renderConversation } from './chat.js';
import { type Document, type DocumentOptions, leaveOut, wellFormed } from './documents.js';
import { encodeInParts } from './encodeInParts.js';
import type { Tokenizer } from './tokenizer.js';

/** A document's token ids. */
export interface EncodedDocument {
  readonly ids: readonly number[];
  /** Whether it is a conversation, rendered by the chat template. */
  readonly isChat: boolean;
  /** Whether it goes on where the document before ends, in the same text. */
  readonly continues?: boolean;
}

/** Settings of `encodeDocuments`. */
export interface EncodingOptions extends Pick<DocumentOptions, 'skipInvalid' | 'onLeftOut'> {
  /** Whether to add the special tokens that tokenizer.json asks for (default false). */
  addSpecialTokens?: boolean;
  /** Most tokens of a document that are needed: no more of a long one is encoded (default: all). */
  tokens?: number | undefined;
  /** Most documents that are read before the first of them is needed (default 64). */
  ahead?: number;
}

/** About this many characters are encoded in one call. */
const CHARACTERS = 1 << 18;

/**
 * Encodes documents in order, some of them in one call. The first call takes one document, each later one twice as many: a
 * caller who needs few reads little. An error in reading or rendering is thrown after all documents before it.
 */
export async function* encodeDocuments(
  documents: Iterable<Document> | AsyncIterable<Document>,
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  {
    addSpecialTokens = false,
    tokens = Number.POSITIVE_INFINITY,
    ahead = 64,
    ...leaving
  }: EncodingOptions = {},
): AsyncGenerator<EncodedDocument> {
  let texts: { text: string; isChat: boolean }[] = [];
  let characters = 0;
  let count = 1;
  const encoded = async function* (): AsyncGenerator<EncodedDocument> {
    const lists = await tokenizer.encodeBatch(
      texts.map(({ text }) => text),
      { addSpecialTokens },
    );
    const kinds = texts.map(({ isChat }) => isChat);
    texts = [];
    characters = 0;
    count = Math.min(ahead, 2 * count);
    for (const [i, ids] of lists.entries()) yield { ids, isChat: kinds[i]! };
  };
  let failure: { error: unknown } | undefined;
  const source = guarded(documents, error => {
    failure = { error };
  });
  for await (const document of source) {
    let text: string | undefined;
    try {
      text = await textOf(document, chat, leaving);
    } catch (error) {
      failure = { error };
      break;
    }
    if (text === undefined) continue;
    const isChat = 'messages' in document;
    if (text.length > CHARACTERS && !addSpecialTokens) {
      if (texts.length > 0) yield* encoded();
      yield { ids: await beginning(text, tokenizer, tokens), isChat };
      continue;
    }
    texts.push({ text, isChat });
    characters += text.length;
    if (texts.length >= count || characters >= CHARACTERS) yield* encoded();
  }
  if (texts.length > 0) yield* encoded();
  if (failure) throw failure.error;
}

/** The text of a document; undefined for a conversation that the chat template refuses, and which is left out. */
async function textOf(
  document: Document,
  chat: ChatTemplate,
  leaving: Pick<EncodingOptions, 'skipInvalid' | 'onLeftOut'>,
): Promise<string | undefined> {
  if ('text' in document) return document.text;
  const { where = 'a conversation' } = document;
  try {
    return wellFormed(await renderConversation(document, chat), where);
  } catch (error) {
    leaveOut(where, error, leaving);
    return undefined;
  }
}

/** The ids of a long text, `tokens` of them at the least. */
async function beginning(text: string, tokenizer: Tokenizer, tokens: number): Promise<number[]> {
  const ids: number[] = [];
  for await (const part of encodeInParts([text], tokenizer)) {
    for (const id of part) ids.push(id);
    if (ids.length >= tokens) break;
  }
  return ids;
}

/** Ends where reading fails, and reports the error. */
async function* guarded<T>(
  items: Iterable<T> | AsyncIterable<T>,
  onError: (error: unknown) => void,
): AsyncGenerator<T> {
  try {
    for await (const item of items) yield item;
  } catch (error) {
    onError(error);
  }
}
