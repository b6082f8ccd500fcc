import type { ChatTemplate } from '../../model/text/chat.js';
import type { Document } from '../../model/text/documents.js';
import type { Tokenizer } from '../../model/text/tokenizer.js';

/** Stand-ins for a model's tokenizer and template that show in their output what became of a text. */

export const BOS = 1000;

/** One token a character; `bos` is put before a text as tokenizer.json would. */
export function characters(bos: boolean): Tokenizer {
  const ids = (text: string, { addSpecialTokens = true } = {}) => [
    ...(bos && addSpecialTokens ? [BOS] : []),
    ...Array.from(text, character => character.charCodeAt(0)),
  ];
  return {
    vocabSize: BOS + 1,
    bosId: bos ? BOS : null,
    eosIds: [],
    specialTokens: {},
    opening: bos ? [BOS] : [],
    encode: async (text, options) => ids(text, options),
    encodeBatch: async (texts, options) => texts.map(text => ids(text, options)),
    decode: async ids => String.fromCharCode(...ids),
    decodeBatch: async lists => lists.map(ids => String.fromCharCode(...ids)),
    createTextStream: () => ({ push: async id => String.fromCharCode(id), end: async () => '' }),
    [Symbol.dispose]() {},
  };
}

/** A sequence as text, BOS as "<". */
export const asText = (ids: readonly number[]): string =>
  ids.map(id => (id === BOS ? '<' : String.fromCharCode(id))).join('');

/** The template writes its own BOS, as models' templates do. */
export const chat: ChatTemplate = {
  available: true,
  date: null,
  renderChat: async messages => `^${messages.map(({ content }) => content).join('|')}`,
};

export const talk = (...contents: string[]): Document => ({
  messages: contents.map(content => ({ role: 'user', content })),
});
