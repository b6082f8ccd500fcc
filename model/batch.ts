import { type Device, Scope, type Tensor, tensorFrom } from '../engine/index.js';

/** Words up to the next 256 bytes, where every device can bind a view. */
const padded = (words: number): number => Math.ceil(words / 64) * 64;

/**
 * Tokens of one or several sequences side by side, without padding. Every token carries its position in its own
 * sequence and the range of key rows that it attends to.
 */
export class Batch {
  readonly tokens: number;
  /** One past the largest position. */
  readonly longest: number;
  /** u32 [tokens] */
  readonly ids: Tensor;
  /** u32 [tokens] */
  readonly positions: Tensor;
  readonly #scope: Scope;
  readonly #ranges = new Map<number | null, Tensor>();

  /**
   * @param sequences token ids; each sequence starts at position `past`.
   * @param past tokens already in the KV cache; only for a single sequence.
   */
  constructor(
    device: Device,
    readonly sequences: readonly (readonly number[])[],
    readonly past = 0,
  ) {
    this.#scope = new Scope(device);
    const tokens = totalTokens(sequences);
    this.tokens = tokens;
    this.longest = past + Math.max(0, ...sequences.map(sequence => sequence.length));
    // One tensor and one write for all: a batch is made for every token of a generated text.
    const at = padded(tokens);
    const words = new Uint32Array(2 * at + 2 * tokens);
    words.set(sequences.flat());
    words.set(
      sequences.flatMap(sequence => sequence.map((_, i) => past + i)),
      at,
    );
    words.set(this.#rangesOf(null), 2 * at);
    const all = this.#scope.own(tensorFrom(device, words, [words.length], 'tokens'));
    this.ids = all.rows(0, tokens);
    this.positions = all.rows(at, tokens);
    this.#ranges.set(null, all.rows(2 * at, 2 * tokens).reshape([tokens, 2]));
  }

  /**
   * u32 [tokens, 2]: first key row and one past the last key row of every token, for causal attention that looks
   * back at most `window` tokens (null: all), the token itself included.
   */
  ranges(window: number | null): Tensor {
    let ranges = this.#ranges.get(window);
    if (!ranges) {
      const values = this.#rangesOf(window);
      ranges = this.#scope.own(tensorFrom(this.#scope.device, values, [this.tokens, 2], 'attention ranges'));
      this.#ranges.set(window, ranges);
    }
    return ranges;
  }

  #rangesOf(window: number | null): Uint32Array {
    const values = new Uint32Array(2 * this.tokens);
    let row = 0;
    for (const sequence of this.sequences) {
      const first = row;
      for (let i = 0; i < sequence.length; i++, row++) {
        const end = row + this.past + 1;
        values[2 * row] = window === null ? first : Math.max(first, end - window);
        values[2 * row + 1] = end;
      }
    }
    return values;
  }

  dispose(): void {
    this.#scope.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Tokens of all sequences together. */
export const totalTokens = (sequences: readonly { readonly length: number }[]): number =>
  sequences.reduce((sum, { length }) => sum + length, 0);

/** Groups sequences, in order, so that no group has more than `tokens` tokens (a longer sequence stands alone). */
export function groupSequences<T extends { readonly length: number }>(
  sequences: readonly T[],
  tokens: number,
): T[][] {
  const groups: T[][] = [];
  let filled = 0;
  for (const sequence of sequences) {
    if (groups.length === 0 || filled + sequence.length > tokens) {
      groups.push([]);
      filled = 0;
    }
    groups.at(-1)!.push(sequence);
    filled += sequence.length;
  }
  return groups;
}
