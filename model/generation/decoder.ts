import { downloadF32, downloadU32, Scope, Tensor, tensorFrom } from '../../engine/index.js';
import { argmax, NOT_FINITE, type SampleOptions, sampleTokens } from '../../kernels/index.js';
import { rotateAlike } from '../architecture/rope.js';
import { Batch } from '../transformer/batch.js';
import { tokenLogits } from '../transformer/headLogits.js';
import { KvCache } from '../transformer/kvCache.js';
import type { Model } from '../transformer/model.js';
import { finalNorm, forwardInTurn } from '../transformer/transformer.js';
import { notFiniteLogits, penalizeRepeats } from './sampler.js';

/** A sequence that goes on: its place in the cache, and all its tokens. */
export interface Continued {
  readonly place: number;
  readonly tokens: readonly number[];
  /** A random u32 for the next token; not for the most likely one. */
  readonly random: number;
}

/** What a sequence adds to its place in the cache. */
interface Part {
  readonly place: number;
  readonly more: readonly number[];
}

/** A copy of logits [sequences, vocab] in which repeated tokens are less likely. */
async function penalized(logits: Tensor, sequences: readonly Continued[], penalty: number): Promise<Tensor> {
  const values = await downloadF32(logits);
  const vocab = values.length / sequences.length;
  for (const [row, { tokens }] of sequences.entries()) {
    penalizeRepeats(values.subarray(row * vocab, (row + 1) * vocab), tokens, penalty);
  }
  return tensorFrom(logits.device, values, logits.shape);
}

/**
 * Continues one or several sequences by a token each, and keeps their keys and values. What a sequence has in common with
 * the previous one in its place is not computed again.
 */
export class Decoder {
  readonly #cache: KvCache;
  /** By place, the tokens whose keys and values the cache holds. */
  readonly #cached: number[][];

  /** @param capacity tokens of each place at first; the cache grows. */
  constructor(
    private readonly model: Model,
    capacity: number,
    places = 1,
  ) {
    this.#cache = new KvCache(model.device, model.arch, capacity, places);
    this.#cached = Array.from({ length: places }, () => []);
  }

  /** Makes room for sequences of `tokens` tokens, ahead of need, so that a growing cache is seldom copied. */
  reserve(tokens: number): void {
    const { capacity } = this.#cache;
    if (tokens > capacity) {
      this.#cache.grow(Math.min(this.model.arch.contextLength, Math.max(tokens, 2 * capacity)));
    }
  }

  /** Forgets what a place does not have in common with `tokens`; returns how many of them it has. */
  keep(place: number, tokens: readonly number[]): number {
    const cached = this.#cached[place]!;
    const differs = tokens.findIndex((id, i) => id !== cached[i]);
    // The last token always runs: its hidden state gives the next one.
    const common = Math.min(differs < 0 ? tokens.length : differs, tokens.length - 1);
    const alike = rotateAlike(this.model.arch.ropes, cached.length, tokens.length);
    cached.length = alike ? common : 0;
    this.#cache.truncate(cached.length, place);
    return cached.length;
  }

  /** Computes all tokens but the last of each sequence, equal beginnings once. */
  async fill(sequences: readonly Continued[]): Promise<void> {
    const { device } = this.model;
    const filled = new Map<string, number>();
    using _section = device.section('prompt');
    for (const { place, tokens } of sequences) {
      const beginning = tokens.slice(0, -1);
      const key = beginning.join();
      const twin = filled.get(key);
      if (twin !== undefined) {
        this.#cache.copy(twin, place);
        this.#cached[place] = beginning;
        continue;
      }
      filled.set(key, place);
      const more = beginning.slice(this.keep(place, tokens));
      if (more.length > 0) (await this.#forward([{ place, more }])).dispose();
    }
  }

  /**
   * Returns the next token of each sequence, in one submit (more for long prompts) and one download. With a repeat penalty
   * the logits go to the host and back.
   */
  async next(
    sequences: readonly Continued[],
    sampling: SampleOptions | undefined,
    repeatPenalty = 1,
  ): Promise<number[]> {
    const { device } = this.model;
    const parts = sequences.map(({ place, tokens }) => ({
      place,
      more: tokens.slice(this.keep(place, tokens)),
    }));
    const first = parts.some(({ place, more }) => more.length > 1 || this.#cached[place]!.length === 0);
    using _section = device.section(first ? 'prompt' : 'tokens');
    using scope = new Scope(device);
    // Before anything is recorded: writing it submits what is.
    const randoms = scope.own(
      tensorFrom(
        device,
        Uint32Array.from(sequences, ({ random }) => random),
      ),
    );
    const together = parts.every(({ more }) => more.length === 1);
    const states = scope.own(await (together ? this.#forward(parts) : this.#oneByOne(parts)));
    const computed = scope.own(tokenLogits(this.model, scope.own(finalNorm(this.model, states))));
    const logits =
      repeatPenalty === 1 ? computed : scope.own(await penalized(computed, sequences, repeatPenalty));
    const chosen = scope.tensor([sequences.length], 'u32', 'tokens');
    if (sampling) sampleTokens(device.recorder, logits, randoms, chosen, sampling);
    else argmax(device.recorder, logits, chosen);
    // Await here: returning the promise would dispose the tensors before they are read.
    const tokens = [...(await downloadU32(chosen))];
    if (tokens.includes(NOT_FINITE)) throw notFiniteLogits();
    return tokens;
  }

  async #oneByOne(parts: readonly Part[]): Promise<Tensor> {
    const { device, arch } = this.model;
    if (parts.length === 1) return await this.#forward(parts);
    const states = Tensor.create(device, [parts.length, arch.hidden], 'f32', 'last states');
    for (const [row, part] of parts.entries()) {
      using last = await this.#forward([part]);
      device.recorder.copy(last, states.rows(row, 1));
    }
    return states;
  }

  /** Appends tokens to the cache; returns the last token's state of each sequence [sequences, hidden]. */
  async #forward(parts: readonly Part[]): Promise<Tensor> {
    const cache = this.#cache;
    using batch = new Batch(
      this.model.device,
      parts.map(({ more }) => more),
      { places: cache.places(parts.map(({ place }) => place)) },
    );
    const states = await forwardInTurn(this.model, batch, { cache, lastToken: parts.length === 1 });
    for (const { place, more } of parts) this.#cached[place]!.push(...more);
    return states;
  }

  /** Frees its tensors. */
  dispose(): void {
    this.#cache.dispose();
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
