import {
  checkArguments,
  type Device,
  type DeviceFacts,
  ensure,
  type Form,
  listOf,
  numeric,
  objectWith,
  optional,
  orNull,
  record,
  Scope,
  type Tensor,
  tensorFrom,
  whole,
} from '../../engine/index.js';
import { type Architecture, storedHeadDim } from '../architecture/architecture.js';
import { attendedColumns } from '../architecture/mixer.js';
import { aDevice, anArchitecture, settingsAmong, tokenLists } from '../arguments/forms.js';
import { type WalkedRows, walkedRows } from './walkedRows.js';

/** Rounds up to a multiple of 256 bytes, where every device can bind a view. */
const padded = (words: number): number => Math.ceil(words / 64) * 64;

/** Where a sequence's keys and values are in a KV cache. */
export interface CachePlace {
  /** Number of the place. */
  readonly place: number;
  /** Row of its first token. */
  readonly start: number;
  /** Tokens that it holds. */
  readonly past: number;
}

/** Settings of a `Batch`. */
export interface BatchOptions {
  /** Tokens already in the KV cache (default 0), where positions begin; only for a single sequence, in place 0. */
  readonly past?: number | undefined;
  /** Where each sequence's keys are in a KV cache, from `KvCache.places`; several sequences have one token each. */
  readonly places?: readonly CachePlace[] | undefined;
  /**
   * Real tokens of every sequence, at least one; the rest is padding (default: no padding). As in transformers with
   * padding on the right, padding continues the positions and attends to the real tokens, but no token attends to it.
   */
  readonly lengths?: readonly number[] | undefined;
  /**
   * For every sequence, the number of leading tokens it shares with the previous one (0 for the first; default: 0). Shared
   * tokens are computed once; only for sequences without past and padding.
   */
  readonly shared?: readonly number[] | undefined;
}

/** A list, or an object that knows its length. */
const aSequence: Form<unknown> = (value, place) =>
  typeof value === 'object' && Number.isInteger((value as { length?: unknown } | null)?.length)
    ? undefined
    : `${place} is no list`;
const queryGrowth = orNull(record({ beta: numeric, every: numeric }));

const batchSettings = settingsAmong<BatchOptions>({
  past: optional(whole()),
  places: optional(listOf(record({ place: whole(), start: whole(), past: whole() }))),
  lengths: optional(listOf(whole(1))),
  shared: optional(listOf(whole())),
});

/**
 * Packs one or several sequences side by side as input of the transformer. Every token carries its
 * position in its own sequence and the range of key rows that it attends to. Keys have the order of their tokens. If
 * sequences share prefixes, `keyRows` gathers each sequence's keys into a contiguous range; shared tokens attend to the
 * keys of the first sequence that has them.
 */
export class Batch {
  /** Rows of the batch: padding counts, shared tokens count once. */
  readonly tokens: number;
  /** Where the sequences are in a KV cache: place 0 by default. */
  readonly places: readonly CachePlace[];
  /** One past the largest position. */
  readonly longest: number;
  /** The row of every sequence's last real token. */
  readonly lastRows: readonly number[];
  /** For every sequence, the row of each of its tokens. */
  readonly rowsOf: readonly (readonly number[])[];
  /** The row of every key, u32 [tokens of all sequences]; set if sequences share prefixes. */
  readonly keyRows: Tensor | undefined;
  /** u32 [tokens] */
  readonly ids: Tensor;
  /** u32 [tokens] */
  readonly positions: Tensor;
  /** Every token's row in the KV cache, u32 [tokens]. */
  readonly cacheRows: Tensor;
  readonly #scope: Scope;
  readonly #ranges = new Map<number | null, Tensor>();
  readonly #apart = new Map<string, Tensor>();
  #walked: WalkedRows | undefined;
  #growth: Tensor | undefined;
  #mutual: Tensor | undefined;
  readonly #lengths: readonly number[];
  readonly #shared: readonly number[];

  /** @param sequences token ids, padding included. */
  constructor(
    device: Device,
    readonly sequences: readonly (readonly number[])[],
    options: BatchOptions = {},
  ) {
    checkArguments(
      'Batch',
      { device, sequences, options },
      { device: aDevice, sequences: tokenLists, options: batchSettings },
    );
    const { past = 0, shared } = options;
    for (const name of ['lengths', 'shared'] as const) {
      const { length = sequences.length } = options[name] ?? {};
      ensure(
        length === sequences.length,
        `${length} \`${name}\` for ${sequences.length} sequences`,
        'Pass one number for each sequence.',
      );
    }
    for (const [s, count] of (shared ?? []).entries()) {
      const most = s === 0 ? 0 : Math.min(sequences[s]!.length, sequences[s - 1]!.length);
      ensure(
        count <= most,
        `sequence ${s} shares ${count} tokens with the one before it`,
        `It can share ${most}.`,
      );
    }
    const { places = [{ place: 0, start: 0, past }], lengths = sequences.map(({ length }) => length) } =
      options;
    ensure(
      places.length === 1 ||
        (places.length === sequences.length && sequences.every(({ length }) => length === 1)),
      `${sequences.length} sequences of ${sequences.map(({ length }) => length)} tokens go on in ${places.length} places of a cache`,
      'Continue one sequence by any number of tokens, or several by one each.',
    );
    this.#scope = new Scope(device);
    this.#lengths = lengths;
    this.#shared = shared ?? sequences.map(() => 0);
    let tokens = 0;
    const rowsOf: number[][] = [];
    for (const [s, sequence] of sequences.entries()) {
      const common = this.#shared[s]!;
      rowsOf.push(sequence.map((_, i) => (i < common ? rowsOf[s - 1]![i]! : tokens++)));
    }
    this.rowsOf = rowsOf;
    this.tokens = tokens;
    this.places = places;
    this.lastRows = rowsOf.map((rows, s) => rows[lengths[s]! - 1]!);
    this.longest = Math.max(0, ...sequences.map((sequence, s) => this.#past(s) + sequence.length));
    // One tensor and one write for everything, because generation makes a batch for every token.
    const at = padded(tokens);
    const words = new Uint32Array(3 * at + 2 * tokens);
    words.set(sequences.flatMap((sequence, s) => sequence.slice(this.#shared[s])));
    words.set(this.#positions(), at);
    words.set(
      sequences.flatMap((sequence, s) => {
        const { start, past } = places[s] ?? places[0]!;
        return sequence.slice(this.#shared[s]).map((_, i) => start + past + i);
      }),
      2 * at,
    );
    words.set(this.#rangesOf(null), 3 * at);
    const all = this.#scope.own(tensorFrom(device, words, [words.length], 'tokens'));
    this.ids = all.rows(0, tokens);
    this.positions = all.rows(at, tokens);
    this.cacheRows = all.rows(2 * at, tokens);
    this.#ranges.set(null, all.rows(3 * at, 2 * tokens).reshape([tokens, 2]));
    const keys = rowsOf.flat();
    this.keyRows =
      keys.length > tokens
        ? this.#scope.own(tensorFrom(device, Uint32Array.from(keys), [keys.length], 'rows of keys'))
        : undefined;
  }

  /** Whether several sequences go on in a cache, so that each token has keys of its own. */
  get apart(): boolean {
    return this.places.length > 1;
  }

  #past(sequence: number): number {
    return (this.places[sequence] ?? this.places[0]!).past;
  }

  /**
   * Key rows of every token for causal attention, u32 [tokens, 2]: the first, and one past the last. A token attends to
   * at most `window` tokens (null: all), itself included.
   */
  ranges(window: number | null): Tensor {
    checkArguments('Batch.ranges', { window }, { window: orNull(whole(1)) });
    let ranges = this.#ranges.get(window);
    if (!ranges) {
      const values = this.#rangesOf(window);
      ranges = this.#scope.own(tensorFrom(this.#scope.device, values, [this.tokens, 2], 'attention ranges'));
      this.#ranges.set(window, ranges);
    }
    return ranges;
  }

  /** Like `ranges`, with every token attending to its whole sequence; only without past and without shared tokens. */
  mutualRanges(): Tensor {
    this.#mutual ??= this.#scope.own(
      tensorFrom(
        this.#scope.device,
        Uint32Array.from(this.rowsOf.flatMap(rows => rows.flatMap(() => [rows[0]!, rows[0]! + rows.length]))),
        [this.tokens, 2],
        'attention ranges',
      ),
    );
    return this.#mutual;
  }

  /**
   * Positions, u32 [tokens], with `shift` added in sequences of more than `most` tokens (including padding and past).
   * Shared tokens belong to the first sequence that has them.
   */
  positionsApart(most: number, shift: number): Tensor {
    checkArguments('Batch.positionsApart', { most, shift }, { most: numeric, shift: whole() });
    if (this.longest <= most) return this.positions;
    const key = `${most} ${shift}`;
    let positions = this.#apart.get(key);
    if (!positions) {
      const values = this.sequences.flatMap((sequence, s) => {
        const past = this.#past(s);
        const first = past + (past + sequence.length > most ? shift : 0);
        return sequence.slice(this.#shared[s]).map((_, i) => first + this.#shared[s]! + i);
      });
      positions = this.#scope.own(
        tensorFrom(this.#scope.device, Uint32Array.from(values), [this.tokens], 'positions apart'),
      );
      this.#apart.set(key, positions);
    }
    return positions;
  }

  /** Factors of the tokens' queries, f32 [tokens]; undefined if all are 1. A batch belongs to one model, with one growth. */
  queryFactors(growth: Architecture['queryGrowth']): Tensor | undefined {
    checkArguments('Batch.queryFactors', { growth }, { growth: queryGrowth });
    if (!growth || this.longest <= growth.every) return undefined;
    const { beta, every } = growth;
    this.#growth ??= this.#scope.own(
      tensorFrom(
        this.#scope.device,
        Float32Array.from(this.#positions(), position => 1 + beta * Math.log1p(Math.floor(position / every))),
        [this.tokens],
        'factors of queries',
      ),
    );
    return this.#growth;
  }

  /** How linear layers go over its tokens. */
  get walked(): WalkedRows {
    this.#walked ??= walkedRows(this, this.#lengths, this.#scope);
    return this.#walked;
  }

  /** Of every token, in the order of rows. */
  #positions(): number[] {
    return this.sequences.flatMap((sequence, s) =>
      sequence.slice(this.#shared[s]).map((_, i) => this.#past(s) + this.#shared[s]! + i),
    );
  }

  #rangesOf(window: number | null): Uint32Array {
    const values = new Uint32Array(2 * this.tokens);
    let row = 0;
    let first = 0;
    for (const [s, sequence] of this.sequences.entries()) {
      const past = this.#past(s);
      first = this.places[s]?.start ?? first;
      const real = first + past + this.#lengths[s]!;
      for (let i = this.#shared[s]!; i < sequence.length; i++, row++) {
        const end = first + i + past + 1;
        const begin = window === null ? first : Math.max(first, end - window);
        // Padding beyond the window attends to nothing.
        values[2 * row] = Math.min(begin, real);
        values[2 * row + 1] = Math.min(end, real);
      }
      first += sequence.length;
    }
    return values;
  }

  /** Frees its tensors. */
  dispose(): void {
    this.#scope.dispose();
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Tokens of all sequences together. */
export const totalTokens = (sequences: readonly { readonly length: number }[]): number =>
  sequences.reduce((sum, { length }) => sum + length, 0);

/** Groups sequences in order into batches of at most `tokens` tokens; a longer sequence gets its own group. */
export function groupSequences<T extends { readonly length: number }>(
  sequences: readonly T[],
  tokens: number,
): T[][] {
  checkArguments('groupSequences', { sequences, tokens }, { sequences: listOf(aSequence), tokens: whole(1) });
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

/** Most tokens of a batch, and bytes of its widest activation. */
const software = { tokens: 1024, widest: 128 << 20 };
const gpu = { tokens: 8192, widest: 512 << 20 };

/** Default number of tokens per batch: enough to keep the device busy, without activations that it cannot bind. */
export function defaultBatchTokens(device: DeviceFacts, arch: Architecture): number {
  checkArguments(
    'defaultBatchTokens',
    { device, arch },
    { device: objectWith('a device', 'info', 'limits'), arch: anArchitecture },
  );
  const { info, limits } = device;
  const { hidden, intermediate, experts, heads } = arch;
  const columns = Math.max(
    ...[intermediate, hidden * (experts?.perToken ?? 1), heads * storedHeadDim(arch), attendedColumns(arch)],
  );
  const most = info.kind === 'software' ? software : gpu;
  const widest = Math.min(most.widest, limits.maxStorageBufferBindingSize);
  return Math.min(most.tokens, Math.floor(widest / (4 * columns)));
}
