import {
  type EncodedDocument,
  firstTokens,
  type SequenceOptions,
  SequencePacker,
  type Tokenizer,
  totalTokens,
} from '../../model/index.js';

/** A token sequence and its origin. */
export interface CalibrationSequence {
  readonly ids: readonly number[];
  /** Index of the file. */
  readonly source: number;
  /** Each document is in one half only, so that half 1 is unseen text for a fit on half 0. */
  readonly half: 0 | 1;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/**
 * Yields documents of several sources: each time of the source with the fewest tokens so far (on a tie, the first).
 *
 * @param open indices of sources that may have more documents; exhausted ones are removed from it.
 */
export async function* fewestTokensFirst(
  sources: readonly AsyncGenerator<EncodedDocument>[],
  open: Set<number>,
  tokensOf: (source: number) => number,
): AsyncGenerator<{ document: EncodedDocument; source: number }> {
  try {
    while (open.size) {
      const source = [...open].reduce((best, at) => (tokensOf(at) < tokensOf(best) ? at : best));
      const { value, done } = await sources[source]!.next();
      if (done) open.delete(source);
      else yield { document: value, source };
    }
  } finally {
    // Close files that were not read to their end.
    for (const source of open) await sources[source]!.return(undefined);
  }
}

/** Divides `total` into whole parts, as equal as their limits `most` allow; the sum is less where the limits are. */
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

/** Merges lists, keeping the order of each, so that any beginning holds about the same share of each list's tokens. */
export function interleave<T>(lists: readonly (readonly T[])[], tokensOf: (item: T) => number): T[] {
  return lists
    .flatMap(list => {
      const total = sum(list.map(tokensOf));
      let before = 0;
      return list.map(item => {
        before += tokensOf(item);
        // The list's progress at the middle of this item.
        return { item, at: (before - tokensOf(item) / 2) / total };
      });
    })
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** A half with fewer tokens than this share of the other can judge nothing. */
const LEAST_SHARE = 1 / 4;

/** Divides the sequences of two halves anew where one has hardly any: few documents, or a single one, fill one half only. */
function divided(
  halves: readonly number[][][],
  inTwo: (sequence: readonly number[]) => number[][],
): readonly number[][][] {
  const [even, odd] = halves.map(totalTokens) as [number, number];
  if (Math.min(even, odd) >= LEAST_SHARE * Math.max(even, odd)) return halves;
  const larger = even > odd ? 0 : 1;
  const all = halves[larger]!.length === 1 ? inTwo(halves[larger]![0]!) : halves[larger]!;
  const alternating = [0, 1].map(half => all.filter((_, i) => i % 2 === half));
  // The smaller half keeps what it has.
  return larger === 0
    ? [alternating[0]!, [...halves[1]!, ...alternating[1]!]]
    : [[...halves[0]!, ...alternating[1]!], alternating[0]!];
}

/**
 * Packs the documents of one source into two halves; each document goes to the half with fewer tokens. A conversation
 * longer than a sequence contributes its first piece; the rest is used only when the source has no other conversations
 * left, since many conversations teach more than much of one.
 */
class Halves {
  readonly #packers: readonly SequencePacker[];
  readonly #first: readonly number[][][] = [[], []];
  readonly #later: readonly number[][][] = [[], []];
  readonly #counts = { first: [0, 0], later: [0, 0] };

  private constructor(packers: readonly SequencePacker[]) {
    this.#packers = packers;
  }

  static async open(tokenizer: Tokenizer, sequenceLength: number): Promise<Halves> {
    const packer = () => SequencePacker.open(tokenizer, sequenceLength);
    return new Halves([await packer(), await packer()]);
  }

  add(document: EncodedDocument): void {
    const [even, odd] = this.tokens as [number, number];
    const half = odd < even ? 1 : 0;
    const sequences = this.#packers[half]!.add(document);
    const counting = document.isChat ? 1 : sequences.length;
    const [first, later] = [sequences.slice(0, counting), sequences.slice(counting)];
    for (const sequence of first) this.#first[half]!.push(sequence);
    for (const sequence of later) this.#later[half]!.push(sequence);
    this.#counts.first[half]! += totalTokens(first);
    this.#counts.later[half]! += totalTokens(later);
  }

  /** Tokens of first pieces, by half. */
  get tokens(): number[] {
    return this.#counts.first.map((tokens, half) => tokens + totalTokens(this.#packers[half]!.rest()));
  }

  /** Tokens of all pieces, by half. */
  get allTokens(): number[] {
    return this.tokens.map((tokens, half) => tokens + this.#counts.later[half]!);
  }

  /** Sequences by half: `tokens` tokens in all, about as many of each half. */
  take(tokens: number): number[][][] {
    const lists = divided(
      this.#packers.map((packer, half) => [...this.#first[half]!, ...packer.rest(), ...this.#later[half]!]),
      sequence => this.#packers[0]!.inTwo(sequence),
    );
    const shares = evenShares(tokens, lists.map(totalTokens));
    return lists.map((list, half) => firstTokens(list, shares[half]!));
  }
}

/**
 * Collects sequences of `tokens` tokens in all (fewer where the sources hold fewer): equal shares of every source, as long
 * as it lasts, and equal shares of both halves. A document goes to the half of its source with fewer tokens so far, so
 * documents of about equal length alternate. The order mixes sources and halves.
 *
 * @throws RmError as readDocuments and SequencePacker.
 */
export async function collectSequences(
  sources: readonly AsyncGenerator<EncodedDocument>[],
  tokenizer: Tokenizer,
  { sequenceLength, tokens = Number.POSITIVE_INFINITY }: SequenceOptions,
): Promise<CalibrationSequence[]> {
  const halves = await Promise.all(sources.map(() => Halves.open(tokenizer, sequenceLength)));
  const open = new Set(sources.keys());
  /** Tokens that a source can contribute: two equal halves while it has more documents, all tokens after that. */
  const usable = (source: number): number => {
    const { tokens: byHalf, allTokens } = halves[source]!;
    return open.has(source) ? 2 * Math.min(...byHalf) : sum(allTokens);
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
