import type { SampleOptions } from '../../kernels/index.js';
import type { Sample } from './chooseTokens.js';

/** Why a text has ended: a token or a function ended it, or it is as long as it may be. */
export type Ended = 'stop' | 'length';

/** Tokens that a text may be ahead of its reader while others are written beside it. */
const AHEAD = 2;

/** How a text is continued, checked and with defaults. */
export interface ContinuationPlan {
  /** Most new tokens: what was asked for, or what fits. */
  readonly limit: number;
  readonly sampling: SampleOptions | undefined;
  readonly repeatPenalty: number;
  readonly sample: Sample | undefined;
  /** Draws a random u32 for each token. */
  readonly draw: () => number;
  readonly eosIds: readonly number[];
  readonly ended: ((tokens: readonly number[]) => boolean | Promise<boolean>) | undefined;
  readonly signal: AbortSignal | undefined;
}

interface Reader {
  readonly resolve: (result: IteratorResult<number, undefined>) => void;
  readonly reject: (reason: unknown) => void;
}

/** What a session does with a text. */
interface Owner {
  /** The text wants a token, for the first time too. */
  wanted(text: Continuation): void;
  /** The text has ended, or nobody reads it any more. */
  left(text: Continuation): void;
}

/**
 * The tokens of a text that a `DecodingSession` continues, to be read with `for await`. It begins when its first token is
 * asked for, and ends early when the loop is left.
 */
export class Continuation implements AsyncIterableIterator<number, undefined> {
  /** Prompt and new tokens. @internal */
  readonly tokens: number[];
  /** Its place in the cache while it has one. @internal */
  place: number | undefined;
  #reused: number | undefined;
  #ended: Ended | undefined;
  #over = false;
  #stepping = false;
  #failure: { readonly reason: unknown } | undefined;
  readonly #unread: number[] = [];
  readonly #readers: Reader[] = [];
  /** @internal */
  readonly plan: ContinuationPlan;
  /** Tokens of the prompt. */
  readonly promptTokens: number;

  /** @internal */
  constructor(
    prompt: readonly number[],
    plan: ContinuationPlan,
    private readonly owner: Owner,
  ) {
    this.plan = plan;
    this.tokens = [...prompt];
    this.promptTokens = prompt.length;
    plan.signal?.addEventListener('abort', this.#heed, { once: true });
  }

  /** Tokens of the prompt whose keys and values were in the cache already. */
  get reused(): number {
    return this.#reused ?? 0;
  }

  /** Why the text has ended; undefined while it goes on, and where its reader left or it failed. */
  get ended(): Ended | undefined {
    return this.#ended;
  }

  /** @internal */
  entered(place: number, reused: number): void {
    this.place = place;
    this.#reused ??= reused;
  }

  /** Whether a token should be computed now. @internal */
  wants(alone: boolean): boolean {
    return this.#readers.length > 0 || (!alone && this.#unread.length < AHEAD);
  }

  /** Adds a chosen token and looks whether the text ends with it. @internal */
  async add(token: number): Promise<void> {
    const { eosIds, ended, limit } = this.plan;
    if (this.#over) return;
    if (eosIds.includes(token)) return this.#end('stop');
    this.tokens.push(token);
    const stops = await ended?.(this.tokens.slice(this.promptTokens));
    if (this.#over) return;
    this.#unread.push(token);
    if (stops) this.#end('stop');
    else if (this.tokens.length >= this.promptTokens + limit) this.#end('length');
    this.#deliver();
  }

  #end(ended: Ended): void {
    this.#ended = ended;
    this.#close();
  }

  /** Ends it with an error, which its reader gets at once. @internal */
  fail(reason: unknown): void {
    if (this.#over) return;
    this.#failure = { reason };
    this.#unread.length = 0;
    this.#close();
  }

  /** Ends it if its signal is aborted; not within a step, whose end the reader then waits for. */
  readonly #heed = () => {
    const { signal } = this.plan;
    if (signal?.aborted && !this.#stepping) this.fail(signal.reason);
  };

  /** A step of the session works on it, or no longer does. @internal */
  set stepping(stepping: boolean) {
    this.#stepping = stepping;
    this.#heed();
  }

  #close(): void {
    if (this.#over) return;
    this.#over = true;
    this.plan.signal?.removeEventListener('abort', this.#heed);
    this.owner.left(this);
    this.#deliver();
  }

  #deliver(): void {
    while (this.#readers.length > 0) {
      const token = this.#unread.shift();
      if (token === undefined && !this.#over) return;
      const { resolve, reject } = this.#readers.shift()!;
      if (token !== undefined) resolve({ done: false, value: token });
      else if (this.#failure) reject(this.#failure.reason);
      else resolve({ done: true, value: undefined });
      // As a generator: an error is told once.
      if (token === undefined) this.#failure = undefined;
    }
  }

  /** The next token. @throws RmError NOT_FINITE, OUT_OF_MEMORY; the signal's reason once it is aborted. */
  next(): Promise<IteratorResult<number, undefined>> {
    this.#heed();
    if (!this.#over && this.plan.limit === 0) this.#end('length');
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject });
      this.#deliver();
      if (!this.#over) this.owner.wanted(this);
    });
  }

  /** Ends the text: nobody reads it any more. */
  async return(): Promise<IteratorResult<number, undefined>> {
    this.#unread.length = 0;
    this.#close();
    return { done: true, value: undefined };
  }

  /** Itself: its tokens can be read once. */
  [Symbol.asyncIterator](): this {
    return this;
  }
}
