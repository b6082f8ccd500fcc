import { downloadF32, downloadU32, RmError, Scope } from '../../engine/index.js';
import { argmax, NOT_FINITE } from '../../kernels/index.js';
import { rotateAlike } from '../architecture/rope.js';
import { Batch } from '../transformer/batch.js';
import { tokenLogits } from '../transformer/headLogits.js';
import { KvCache } from '../transformer/kvCache.js';
import type { Model } from '../transformer/model.js';
import { finalNorm, forward } from '../transformer/transformer.js';
import { createSampler, notFiniteLogits, type SamplingOptions } from './sampler.js';

/** Settings of `DecodingSession.continue`. */
export interface ContinueOptions extends SamplingOptions {
  /** Most new tokens. */
  maxTokens: number;
  /** Tokens that end the text; the ending token is not returned. */
  eosIds?: readonly number[];
  signal?: AbortSignal;
}

/**
 * Continues sequences token by token and keeps the KV cache between them. If a sequence begins like the previous one, as
 * the next turn of a conversation does, only its new tokens are computed.
 */
export class DecodingSession {
  readonly #model: Model;
  #cache: KvCache | undefined;
  /** The tokens whose keys and values the cache holds. */
  #cached: number[] = [];
  #reused = 0;

  constructor(model: Model) {
    this.#model = model;
  }

  /** Tokens of the last sequence that came from the cache. */
  get reused(): number {
    return this.#reused;
  }

  /**
   * Generates the tokens after `sequence`, each computed when it is requested. The caller may stop early. Run one generator
   * at a time: a session has one cache.
   *
   * @throws RmError INVALID_ARGUMENT for an empty sequence or one that leaves no room in the model's context,
   *   NOT_FINITE; the signal's reason once it is aborted.
   */
  async *continue(sequence: readonly number[], options: ContinueOptions): AsyncGenerator<number, void, void> {
    const { maxTokens, eosIds = [], signal } = options;
    const { contextLength } = this.#model.arch;
    const room = contextLength - sequence.length;
    if (sequence.length === 0 || room < 1) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `the prompt has ${sequence.length} tokens, but the model's context is ${contextLength}`,
        'Use a prompt of at least one token that leaves room for new ones.',
      );
    }
    const sample = createSampler(options);
    const limit = Math.min(maxTokens, room);
    let next = this.#begin(sequence, limit);
    for (let count = 0; count < limit; count++) {
      signal?.throwIfAborted();
      const token = await this.#nextToken(next, options.temperature ? sample : undefined);
      if (eosIds.includes(token)) return;
      yield token;
      const cached = this.#cached;
      next = this.#keepsRotation(cached.length + 1)
        ? [token]
        : this.#begin([...cached, token], limit - count);
    }
  }

  /** Whether a sequence of `tokens` tokens uses the same rotation frequencies as the cached keys. */
  #keepsRotation(tokens: number): boolean {
    return rotateAlike(this.#model.arch.ropes, this.#cached.length, tokens);
  }

  /** Prepares the cache for `sequence` and `more` new tokens; returns the tokens that are not cached. */
  #begin(sequence: readonly number[], more: number): readonly number[] {
    const differs = sequence.findIndex((id, i) => id !== this.#cached[i]);
    // The last token always runs: its hidden state gives the first new token.
    const common = Math.min(differs < 0 ? sequence.length : differs, sequence.length - 1);
    const { device, arch } = this.#model;
    const needed = sequence.length + more;
    this.#cache ??= new KvCache(device, arch, needed);
    // Grow ahead of need, so that a long conversation is not copied at every turn.
    if (needed > this.#cache.capacity) {
      this.#cache.grow(Math.min(arch.contextLength, Math.max(needed, 2 * this.#cache.capacity)));
    }
    const reused = this.#keepsRotation(sequence.length) ? common : 0;
    this.#cache.truncate(reused);
    this.#cached.length = reused;
    this.#reused = reused;
    return sequence.slice(reused);
  }

  /**
   * Appends `tokens` to the cache and returns the next token: the most likely one, found on the device, or the choice of
   * `sample`. Takes one submit (more for long prompts) and one download.
   */
  async #nextToken(
    tokens: readonly number[],
    sample: ((logits: Float32Array) => number) | undefined,
  ): Promise<number> {
    const model = this.#model;
    const cache = this.#cache!;
    const { device } = model;
    using _section = device.section(tokens.length > 1 || cache.length === 0 ? 'prompt' : 'tokens');
    using scope = new Scope(device);
    using batch = new Batch(device, [tokens], { past: cache.length });
    const hidden = scope.own(forward(model, batch, { cache, lastToken: true }));
    for (const token of tokens) this.#cached.push(token);
    const logits = scope.own(tokenLogits(model, scope.own(finalNorm(model, hidden))));
    // Await here: returning the promise would dispose the tensors before they are read.
    if (sample) return sample(await downloadF32(logits));
    const best = scope.tensor([1], 'u32', 'token');
    argmax(device.recorder, logits, best);
    const [token = NOT_FINITE] = await downloadU32(best);
    if (token === NOT_FINITE) throw notFiniteLogits();
    return token;
  }

  /** Frees its tensors. */
  dispose(): void {
    this.#cache?.dispose();
    this.#cache = undefined;
    this.#cached = [];
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
