import {
  type ChatTemplate,
  type Document,
  firstTokens,
  type SequenceOptions,
  SequencePacker,
  type Tokenizer,
  totalTokens,
} from '../../model/index.js';

/** A sequence that knows where it comes from. */
export interface CalibrationSequence {
  readonly ids: readonly number[];
  /** Index of the file. */
  readonly source: number;
  /** A document is in one half only, so that what was fitted on half 0 meets only texts it has not seen in half 1. */
  readonly half: 0 | 1;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/**
 * Documents of several sources, always one of the source that has the fewest tokens so far (the first of them).
 *
 * @param open indices of the sources that may have more; those that have ended are taken out.
 */
export async function* fewestTokensFirst(
  sources: readonly AsyncGenerator<Document>[],
  open: Set<number>,
  tokensOf: (source: number) => number,
): AsyncGenerator<{ document: Document; source: number }> {
  try {
    while (open.size) {
      const source = [...open].reduce((best, at) => (tokensOf(at) < tokensOf(best) ? at : best));
      const { value, done } = await sources[source]!.next();
      if (done) open.delete(source);
      else yield { document: value, source };
    }
  } finally {
    // Files that were not read to their end are still open.
    for (const source of open) await sources[source]!.return(undefined);
  }
}

/** `total` in whole parts that are as equal as the `most` of each allows; less in all where they allow no more. */
export function evenShares(total: number, most: readonly number[]): number[] {
  const shares = most.map(() => 0);
  const ascending = [...most.keys()].sort((a, b) => most[a]! - most[b]!);
  let left = total;
  for (const [i, at] of ascending.entries()) {
    shares[at] = Math.min(most[at]!, Math.floor(left / (ascending.length - i)));
    left -= shares[at]!;
  }
  return shares;
}

/** Merges lists, each in its own order, so that any beginning holds about the same share of the tokens of each. */
export function interleave<T>(lists: readonly (readonly T[])[], tokensOf: (item: T) => number): T[] {
  return lists
    .flatMap(list => {
      const total = sum(list.map(tokensOf));
      let before = 0;
      return list.map(item => {
        before += tokensOf(item);
        // How far the list has come with half of this item.
        return { item, at: (before - tokensOf(item) / 2) / total };
      });
    })
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/**
 * Sequences of one source: a packing for each half, to which documents go by turns of tokens. Of a conversation that is
 * longer than a sequence the first piece counts; what follows waits until the source has no other conversations left,
 * since many of them teach more than much of one.
 */
class Halves {
  readonly #packers: readonly SequencePacker[];
  readonly #first: readonly number[][][] = [[], []];
  readonly #later: readonly number[][][] = [[], []];
  readonly #counts = { first: [0, 0], later: [0, 0] };

  constructor(tokenizer: Tokenizer, chat: ChatTemplate, sequenceLength: number) {
    this.#packers = [0, 1].map(() => new SequencePacker(tokenizer, chat, sequenceLength));
  }

  add(document: Document): void {
    const [even, odd] = this.tokens as [number, number];
    const half = odd < even ? 1 : 0;
    const sequences = this.#packers[half]!.add(document);
    const counting = 'text' in document ? sequences.length : 1;
    const [first, later] = [sequences.slice(0, counting), sequences.slice(counting)];
    this.#first[half]!.push(...first);
    this.#later[half]!.push(...later);
    this.#counts.first[half]! += totalTokens(first);
    this.#counts.later[half]! += totalTokens(later);
  }

  /** By half, of the first pieces. */
  get tokens(): number[] {
    return this.#counts.first.map((tokens, half) => tokens + totalTokens(this.#packers[half]!.rest()));
  }

  /** By half, of all pieces. */
  get allTokens(): number[] {
    return this.tokens.map((tokens, half) => tokens + this.#counts.later[half]!);
  }

  /** Of each half about the same number of tokens, `tokens` in all. */
  take(tokens: number): number[][][] {
    const shares = evenShares(tokens, this.allTokens);
    return shares.map((share, half) =>
      firstTokens([...this.#first[half]!, ...this.#packers[half]!.rest(), ...this.#later[half]!], share),
    );
  }
}

/**
 * Sequences of `tokens` tokens in all (fewer where the sources hold fewer), as many of one source as of another, as
 * far as they have them, and half of every source's in each half. A document goes to the half of its source that has
 * fewer tokens so far: documents alternate where they are about equally long. The order mixes sources and halves.
 *
 * @throws RmError as readDocuments and SequencePacker.
 */
export async function collectSequences(
  sources: readonly AsyncGenerator<Document>[],
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  { sequenceLength, tokens = Number.POSITIVE_INFINITY }: SequenceOptions,
): Promise<CalibrationSequence[]> {
  const halves = sources.map(() => new Halves(tokenizer, chat, sequenceLength));
  const open = new Set(sources.keys());
  /** Tokens of a source that can be given out in two equal halves, if it goes on. */
  const usable = (source: number): number => {
    const { tokens: found, allTokens } = halves[source]!;
    return open.has(source) ? 2 * Math.min(...found) : sum(allTokens);
  };
  const enough = (): boolean => {
    const level = Math.min(...[...open].map(usable));
    return sum(halves.map((_, source) => Math.min(level, usable(source)))) >= tokens;
  };
  for await (const { document, source } of fewestTokensFirst(sources, open, usable)) {
    halves[source]!.add(document);
    if (enough()) break;
  }
  const shares = evenShares(
    tokens,
    halves.map((_, source) => usable(source)),
  );
  const lists = halves.flatMap((of, source) =>
    of
      .take(shares[source]!)
      .map((sequences, half) => sequences.map(ids => ({ ids, source, half: half as 0 | 1 }))),
  );
  return interleave(lists, ({ ids }) => ids.length);
}
