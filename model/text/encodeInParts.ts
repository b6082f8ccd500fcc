import type { Tokenizer } from './tokenizer.js';

type Encoder = Pick<Tokenizer, 'encodeBatch'>;

/** Characters of the first part that is encoded; each further one has twice as many, up to MOST. */
const FIRST = 1 << 14;
const MOST = 1 << 18;

/** Characters before and after a cut in which its effect shows. */
const WINDOW = 1000;

/** Cuts that are tried before the text is read on. */
const TRIES = 24;

/** Positions to cut at, the best first: before white space near the end of the first `length` characters, else anywhere. */
function* cuts(text: string, length: number): Generator<number> {
  for (const space of ['\n', ' ']) {
    let at = length;
    for (let i = 0; i < TRIES; i++) {
      at = text.lastIndexOf(space, at - 1);
      if (at < Math.max(WINDOW, length / 2)) break;
      if (/\S/.test(text[at - 1]!)) yield at;
    }
  }
  for (let at = length; at > length - TRIES; at--) {
    // Not between the two halves of a character.
    if (!/[\udc00-\udfff]/.test(text[at]!)) yield at;
  }
}

const startsWith = (ids: readonly number[], start: readonly number[]): boolean =>
  start.every((id, i) => ids[i] === id);

/** Where no token crosses: what comes before is encoded the same whether or not the rest follows. */
async function findCut(text: string, length: number, tokenizer: Encoder) {
  for (const at of cuts(text, length)) {
    const before = text.slice(at - WINDOW, at);
    const around = text.slice(at - WINDOW, at + WINDOW);
    const [ids, idsAround] = await tokenizer.encodeBatch([before, around], { addSpecialTokens: false });
    if (startsWith(idsAround!, ids!)) return { at, before, ids: ids! };
  }
  return undefined;
}

/**
 * Encodes a text of any length part by part, without special tokens, as far as the caller reads; the ids are those of the whole text. Each part is
 * encoded together with the characters before it, so that a tokenizer's treatment of a text's beginning changes nothing.
 */
export async function* encodeInParts(
  parts: Iterable<string> | AsyncIterable<string>,
  tokenizer: Encoder,
): AsyncGenerator<readonly number[]> {
  let rest = '';
  let context: { before: string; ids: readonly number[] } = { before: '', ids: [] };
  const idsOf = async (text: string) => {
    const [ids] = await tokenizer.encodeBatch([context.before + text], { addSpecialTokens: false });
    return ids!.slice(context.ids.length);
  };
  let length = FIRST;
  for await (const part of parts) {
    rest += part;
    while (rest.length >= length + WINDOW) {
      const cut = await findCut(rest, length, tokenizer);
      // Without a cut the next try reads on.
      length = cut ? Math.min(MOST, 2 * length) : 2 * length;
      if (!cut) continue;
      yield await idsOf(rest.slice(0, cut.at));
      rest = rest.slice(cut.at);
      context = cut;
    }
  }
  if (rest !== '') yield await idsOf(rest);
}
