import {
  checkArguments,
  type Device,
  ensure,
  type Form,
  listOf,
  RmError,
  Scope,
  Tensor,
  whole,
} from '../../engine/index.js';
import { type Architecture, hasLinearLayers, storedHeadDim } from '../architecture/architecture.js';
import { aBatch, aDevice, anArchitecture } from '../arguments/forms.js';
import type { Batch, CachePlace } from './batch.js';
import { CachedStates, type LinearStates } from './linearStates.js';

/** Keys and values of all layers with attention, and the scope that owns them. */
interface Store {
  readonly scope: Scope;
  readonly keys: readonly (Tensor | undefined)[];
  readonly values: readonly (Tensor | undefined)[];
}

/** A run of rows that a place has, and how many of them hold a token. */
interface Range {
  start: number;
  room: number;
  length: number;
}

const present = (tensors: readonly (Tensor | undefined)[]): Tensor[] =>
  tensors.filter(tensor => tensor !== undefined);

const cachedColumns = (arch: Architecture): number => arch.kvHeads * storedHeadDim(arch);

/**
 * Keeps keys and values of one or several sequences, layer by layer, for generation token by token. Each sequence has a
 * place: a run of rows, as many as it needs. Layers without attention keep what they know of all tokens so far in a place,
 * which cannot go back to fewer.
 */
export class KvCache {
  readonly #device: Device;
  readonly #arch: Architecture;
  readonly #places: readonly Range[];
  #rows: number;
  readonly #states: CachedStates;
  #store: Store;

  /**
   * Allocates room for `capacity` tokens in each of `places` places (default: one): for each layer with attention 2 x places x
   * capacity x kvHeads x headDim f32 values (headDim: a multiple of 4). `resize` gives a place more or less.
   */
  constructor(device: Device, arch: Architecture, capacity: number, places = 1) {
    checkArguments(
      'KvCache',
      { device, arch, capacity, places },
      { device: aDevice, arch: anArchitecture, capacity: whole(), places: whole(1, 2 ** 20) },
    );
    this.#device = device;
    this.#arch = arch;
    this.#places = Array.from({ length: places }, (_, place) => ({
      ...{ start: place * capacity, room: capacity, length: 0 },
    }));
    this.#rows = capacity * places;
    this.#states = new CachedStates(device, arch);
    this.#store = this.#allocate(this.#rows);
  }

  #allocate(rows: number): Store {
    const columns = cachedColumns(this.#arch);
    const scope = new Scope(this.#device);
    const make = (what: string) =>
      this.#arch.linear.map(mixer =>
        mixer ? undefined : scope.tensor([rows, columns], 'f32', `cached ${what}`),
      );
    try {
      return { scope, keys: make('keys'), values: make('values') };
    } catch (error) {
      scope.dispose();
      throw error;
    }
  }

  get #aPlace(): Form<number> {
    return whole(0, this.#places.length - 1);
  }

  /** Tokens for which there is memory, in all places together. */
  get rows(): number {
    return this.#rows;
  }

  /** Tokens in place 0. */
  get length(): number {
    return this.#places[0]!.length;
  }

  /** Keys and values of a layer with attention, [rows, kvDim] each; rows that hold no token are unused. */
  layer(layer: number): { keys: Tensor; values: Tensor } {
    checkArguments('KvCache.layer', { layer }, { layer: whole(0, this.#arch.layers - 1) });
    const [keys, values] = [this.#store.keys[layer], this.#store.values[layer]];
    ensure(
      keys !== undefined && values !== undefined,
      `layer ${layer} has no attention`,
      'Take its `states`.',
    );
    return { keys, values };
  }

  /** The states of a layer without attention; undefined of one with. */
  states(layer: number): LinearStates | undefined {
    checkArguments('KvCache.states', { layer }, { layer: whole(0, this.#arch.layers - 1) });
    return this.#states.of(layer);
  }

  /** Where the sequences in these places are, for a `Batch`. @throws RmError OUT_OF_MEMORY */
  places(places: readonly number[]): CachePlace[] {
    checkArguments('KvCache.places', { places }, { places: listOf(this.#aPlace) });
    this.#states.hold(Math.max(-1, ...places) + 1);
    return places.map(place => {
      const { start, length } = this.#places[place]!;
      return { place, start, past: length };
    });
  }

  /** Tokens that fit in a place. */
  roomOf(place: number): number {
    checkArguments('KvCache.roomOf', { place }, { place: this.#aPlace });
    return this.#places[place]!.room;
  }

  /**
   * Makes memory for at least `rows` tokens in all, ahead of need, and moves all places together.
   *
   * @throws RmError OUT_OF_MEMORY; the cache is then unchanged.
   */
  grow(rows: number): void {
    checkArguments('KvCache.grow', { rows }, { rows: whole() });
    if (rows > this.#rows) this.#rebuild(rows);
  }

  /**
   * Gives a place room for so many tokens; with 0 it has none and costs nothing. Keeps the tokens that fit.
   *
   * @throws RmError OUT_OF_MEMORY; the cache is then unchanged.
   */
  resize(place: number, room: number): void {
    checkArguments('KvCache.resize', { place, room }, { place: this.#aPlace, room: whole() });
    const range = this.#places[place]!;
    if (room > range.room) {
      const start = firstGap(
        this.#places.filter(other => other !== range),
        room,
        this.#rows,
      );
      const needed = this.#places.reduce((sum, other) => sum + other.room, room - range.room);
      if (start === undefined) this.#rebuild(Math.max(this.#rows, needed), range, room);
      else this.#move(range, start);
    }
    range.room = room;
    this.truncate(room, place);
  }

  /** Moves all places together into new memory; one of them gets another room. */
  #rebuild(rows: number, changed?: Range, room = 0): void {
    const { scope, keys, values } = this.#store;
    // Where nothing is to be copied, the old memory serves again.
    const empty = this.#places.every(({ length }) => length === 0);
    if (empty) scope.dispose();
    let larger: Store;
    try {
      larger = this.#allocate(rows);
    } catch (error) {
      if (empty) this.#store = this.#allocate(this.#rows);
      throw error;
    }
    const [from, to] = [present([...keys, ...values]), present([...larger.keys, ...larger.values])];
    let start = 0;
    for (const range of this.#places) {
      for (const [i, tensor] of from.entries()) {
        if (range.length === 0) break;
        this.#device.recorder.copy(tensor.rows(range.start, range.length), to[i]!.rows(start, range.length));
      }
      range.start = start;
      start += range === changed ? room : range.room;
    }
    if (!empty) scope.dispose();
    this.#store = larger;
    this.#rows = rows;
  }

  #move(range: Range, start: number): void {
    if (start !== range.start) this.#copyWithin(range.start, start, range.length);
    range.start = start;
  }

  /** Gives place `to`, which must have room for them, the first `count` tokens of place `from` (default: all). */
  copy(from: number, to: number, count = this.#places[from]?.length ?? 0): void {
    checkArguments(
      'KvCache.copy',
      { from, to, count },
      { from: this.#aPlace, to: this.#aPlace, count: whole() },
    );
    const [source, target] = [this.#places[from]!, this.#places[to]!];
    const fits = Math.min(source.length, target.room);
    ensure(
      count <= fits,
      `${count} tokens to copy from place ${from} to place ${to}`,
      `It can be ${fits} tokens.`,
    );
    ensure(
      count === 0 || count === source.length || !this.#hasStates,
      `${count} of ${source.length} tokens to copy where layers without attention know of all`,
      'Copy all, or none.',
    );
    if (from !== to) {
      this.#copyWithin(source.start, target.start, count);
      if (count > 0) this.#states.copy(from, to);
    }
    target.length = count;
  }

  #copyWithin(from: number, to: number, count: number): void {
    if (count === 0) return;
    const { recorder } = this.#device;
    for (const tensor of present([...this.#store.keys, ...this.#store.values])) {
      // WebGPU copies nothing within one buffer.
      using between = Tensor.create(this.#device, [count, tensor.columns], 'f32', 'keys or values');
      recorder.copy(tensor.rows(from, count), between);
      recorder.copy(between, tensor.rows(to, count));
    }
  }

  get #hasStates(): boolean {
    return hasLinearLayers(this.#arch);
  }

  /**
   * Forgets all but the first `length` tokens of a place, or all where layers without attention know of more.
   *
   * @returns how many it still has.
   */
  truncate(length: number, place = 0): number {
    checkArguments('KvCache.truncate', { length, place }, { length: whole(), place: this.#aPlace });
    const range = this.#places[place]!;
    if (length < range.length) range.length = this.#hasStates ? 0 : length;
    return range.length;
  }

  /** @throws RmError INVALID_ARGUMENT unless a batch's tokens fit. */
  requireRoom(batch: Pick<Batch, 'sequences' | 'places'>): void {
    checkArguments('KvCache.requireRoom', { batch }, { batch: aBatch });
    const { sequences, places } = batch;
    for (const [s, { place, past }] of places.entries()) {
      const needed = past + sequences[s]!.length;
      const room = this.roomOf(place);
      if (needed <= room) continue;
      throw new RmError(
        'INVALID_ARGUMENT',
        `the KV cache holds ${room} tokens, ${needed} are needed`,
        'Generate fewer tokens or shorten the prompt.',
      );
    }
  }

  /** Counts a batch's tokens; call once after all layers have stored their keys and values. */
  advance(batch: Pick<Batch, 'sequences' | 'places'>): void {
    checkArguments('KvCache.advance', { batch }, { batch: aBatch });
    const { sequences, places } = batch;
    for (const [s, { place, past }] of places.entries())
      this.#places[place]!.length = past + sequences[s]!.length;
  }

  /** Frees its tensors. */
  dispose(): void {
    this.#store.scope.dispose();
    this.#states.dispose();
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The first row of the first gap of `room` rows between ranges among `rows`; undefined if there is none. */
function firstGap(ranges: readonly Range[], room: number, rows: number): number | undefined {
  let start = 0;
  for (const range of [...ranges].filter(range => range.room > 0).sort((a, b) => a.start - b.start)) {
    if (range.start - start >= room) return start;
    start = range.start + range.room;
  }
  return rows - start >= room ? start : undefined;
}
