import { type ChatTemplate, renderConversation } from './chat.js';
import type { Document } from './documents.js';
import type { Tokenizer } from './tokenizer.js';

/** A document's token ids. */
export interface EncodedDocument {
  readonly ids: readonly number[];
  /** Whether it is a conversation, rendered by the chat template. */
  readonly isChat: boolean;
}

/** Settings of `encodeDocuments`. */
interface AheadOptions {
  /** Whether to add the special tokens that tokenizer.json asks for (default false). */
  addSpecialTokens?: boolean;
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
  { addSpecialTokens = false, ahead = 64 }: AheadOptions = {},
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
    try {
      const isChat = 'messages' in document;
      const text = isChat ? await renderConversation(document, chat) : document.text;
      texts.push({ text, isChat });
      characters += text.length;
    } catch (error) {
      failure = { error };
      break;
    }
    if (texts.length >= count || characters >= CHARACTERS) yield* encoded();
  }
  if (texts.length > 0) yield* encoded();
  if (failure) throw failure.error;
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
