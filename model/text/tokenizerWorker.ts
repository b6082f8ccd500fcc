import { AddedToken, Tokenizer } from 'tokenizers';
import { answerRequests } from '../files/isolatedWorker.js';
import type { SpecialToken } from './addedTokens.js';

/** What the tokenizer process is asked, and what it answers. */
export interface TokenizerRequests {
  /** The first request: a tokenizer.json, and tokens to add to it. */
  load: { definition: string; added: readonly SpecialToken[]; result: { opening: readonly number[] } };
  encode: { texts: readonly string[]; addSpecialTokens: boolean; result: Uint32Array[] };
  decode: { ids: readonly (readonly number[])[]; skipSpecialTokens: boolean; result: string[] };
  /** The ids of tokens; null for those that the tokenizer lacks. */
  idsOf: { tokens: readonly string[]; result: (number | null)[] };
}

/** What a request may take; it encodes a million characters in a few seconds. */
const limits = { bytes: 4 * 2 ** 30, seconds: 120 };

let tokenizer: Tokenizer;

/** Texts to find out what the post-processor puts before a text: most tokenizers have tokens for the first. */
const probes = ['a', '0', 'A', '.', '\u4e00'];

/** The tokens that the post-processor puts before a text. */
async function openingTokens(): Promise<number[]> {
  for (const probe of probes) {
    const encoding = await tokenizer.encode(probe, null, { addSpecialTokens: true }).catch(() => undefined);
    const added = encoding?.getSpecialTokensMask() ?? [];
    const first = added.indexOf(0);
    if (first >= 0) return encoding!.getIds().slice(0, first);
  }
  return [];
}

async function load({ definition, added }: TokenizerRequests['load']) {
  tokenizer = Tokenizer.fromString(definition);
  // As transformers does: these would cut texts, or fill them up.
  tokenizer.disableTruncation();
  tokenizer.disablePadding();
  const tokens = added.map(({ content, special, single_word, lstrip, rstrip, normalized }) => {
    const options = { singleWord: single_word, leftStrip: lstrip, rightStrip: rstrip, normalized };
    return new AddedToken(content, special, options);
  });
  if (tokens.length > 0) tokenizer.addAddedTokens(tokens);
  return { opening: await openingTokens() };
}

const answers: {
  [Kind in keyof TokenizerRequests]: (
    body: TokenizerRequests[Kind],
  ) => Promise<TokenizerRequests[Kind]['result']>;
} = {
  load,
  encode: async ({ texts, addSpecialTokens }) => {
    const encodings = await tokenizer.encodeBatch([...texts], { addSpecialTokens });
    return encodings.map(encoding => Uint32Array.from(encoding.getIds()));
  },
  decode: ({ ids, skipSpecialTokens }) =>
    tokenizer.decodeBatch(
      ids.map(list => [...list]),
      skipSpecialTokens,
    ),
  idsOf: async ({ tokens }) => tokens.map(token => tokenizer.tokenToId(token)),
};

answerRequests(body => {
  const request = body as { kind: keyof TokenizerRequests };
  return answers[request.kind](request as never);
}, limits);
