import { Scope, Tensor, tensorFrom } from '../../engine/index.js';
import { hasLinearLayers } from '../architecture/architecture.js';
import { rotateAlike } from '../architecture/rope.js';
import { Batch } from '../transformer/batch.js';
import { tokenLogits } from '../transformer/headLogits.js';
import { KvCache } from '../transformer/kvCache.js';
import type { Model } from '../transformer/model.js';
import { finalNorm, forwardInTurn } from '../transformer/transformer.js';
import { type Choosing, type Chosen, chooseTokens } from './chooseTokens.js';

/** A text that goes on: its place in the cache, all its tokens, and how the next one is chosen. */
export interface Continued extends Choosing {
  readonly place: number;
  /** A random u32 for the next token. */
  readonly random: number;
}

/** What a text adds to its place in the cache. */
interface Part {
  readonly place: number;
  readonly more: readonly number[];
}

/** Continues texts by a token each, and keeps their keys and values in places of a cache. */
export class Decoder {
  readonly #cache: KvCache;
  /** By place, the tokens whose keys and values the cache holds. */
  readonly #cached: number[][];

  constructor(
    private readonly model: Model,
    places: number,
  ) {
    this.#cache = new KvCache(model.device, model.arch, 0, places);
    this.#cached = Array.from({ length: places }, () => []);
  }

  /** Tokens that a place holds, and those for which it has room. */
  lengthOf(place: number): number {
    return this.#cached[place]!.length;
  }

  roomOf(place: number): number {
    return this.#cache.roomOf(place);
  }

  /** Makes memory for so many tokens in all; a little more each time, so that it is seldom copied. @throws RmError OUT_OF_MEMORY */
  reserve(rows: number, most: number): void {
    const cache = this.#cache;
    if (rows > cache.rows) cache.grow(Math.min(most, Math.max(rows, Math.ceil(1.5 * cache.rows))));
  }

  /** Gives a place room for so many tokens. @throws RmError OUT_OF_MEMORY; nothing is then changed. */
  resize(place: number, room: number): void {
    this.#cache.resize(place, room);
    this.#truncate(place, room);
  }

  /**
   * How many of its first tokens a text has in common with a place, as far as the place can go back. The last one always
   * runs: its state gives the next.
   */
  common(place: number, tokens: readonly number[]): number {
    const cached = this.#cached[place]!;
    const differs = tokens.findIndex((id, i) => id !== cached[i]);
    const alike = rotateAlike(this.model.arch.ropes, cached.length, tokens.length);
    const common = alike ? Math.min(differs < 0 ? tokens.length : differs, tokens.length - 1) : 0;
    // Layers without attention know of all tokens of the place.
    return common < cached.length && hasLinearLayers(this.model.arch) ? 0 : common;
  }

  /** Begins a text in a place with the first `count` tokens of another place, or of its own. */
  begin(place: number, from: number, count: number): void {
    this.#cache.copy(from, place, count);
    this.#cached[place] = this.#cached[from]!.slice(0, count);
  }

  #truncate(place: number, length: number): void {
    const cached = this.#cached[place]!;
    cached.length = this.#cache.truncate(Math.min(cached.length, length), place);
  }

  /** How many of its tokens a text still lacks in its place; those that would rotate otherwise by now are forgotten. */
  missing({ place, tokens }: Pick<Continued, 'place' | 'tokens'>): number {
    if (!rotateAlike(this.model.arch.ropes, this.lengthOf(place), tokens.length)) this.#truncate(place, 0);
    return tokens.length - this.lengthOf(place);
  }

  /** Computes the next `count` tokens of a text that are not in its place yet, and chooses nothing. */
  async fill({ place, tokens }: Pick<Continued, 'place' | 'tokens'>, count: number): Promise<void> {
    using _section = this.model.device.section('prompt');
    (await this.#forward([{ place, more: tokens.slice(this.lengthOf(place)).slice(0, count) }])).dispose();
  }

  /**
   * Returns the next token of each text. Those that lack one token run together, in one submit, and each other one by
   * itself; then one download.
   */
  async next(texts: readonly Continued[]): Promise<Chosen[]> {
    const { device } = this.model;
    const parts = texts.map(({ place, tokens }) => ({ place, more: tokens.slice(this.lengthOf(place)) }));
    const first = parts.some(({ place, more }) => more.length > 1 || this.lengthOf(place) === 0);
    using _section = device.section(first ? 'prompt' : 'tokens');
    using scope = new Scope(device);
    // Before anything is recorded: writing it submits what is.
    const randoms = scope.own(
      tensorFrom(
        device,
        Uint32Array.from(texts, ({ random }) => random),
      ),
    );
    const states = scope.own(await this.#lastStates(parts));
    const logits = scope.own(tokenLogits(this.model, scope.own(finalNorm(this.model, states))));
    // Await here: returning the promise would dispose the tensors before they are read.
    return await chooseTokens(this.model, logits, randoms, texts);
  }

  /** The state of each text's last token [texts, hidden]. */
  async #lastStates(parts: readonly Part[]): Promise<Tensor> {
    const short = parts.filter(({ more }) => more.length === 1);
    if (short.length === parts.length || parts.length === 1) return await this.#forward(parts);
    const { device, arch } = this.model;
    const states = Tensor.create(device, [parts.length, arch.hidden], 'f32', 'last states');
    try {
      const groups = [...parts.filter(({ more }) => more.length > 1).map(part => [part]), short];
      for (const group of groups.filter(({ length }) => length > 0)) {
        using last = await this.#forward(group);
        for (const [row, part] of group.entries())
          device.recorder.copy(last.rows(row, 1), states.rows(parts.indexOf(part), 1));
      }
      return states;
    } catch (error) {
      states.dispose();
      throw error;
    }
  }

  /** Appends tokens to the cache; returns the last token's state of each text [texts, hidden]. */
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
}
