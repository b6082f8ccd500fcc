import {
  checkArguments,
  type Device,
  type Form,
  listOf,
  RmError,
  Scope,
  Tensor,
  whole,
} from '../../engine/index.js';
import { type Architecture, storedHeadDim } from '../architecture/architecture.js';
import { aBatch, aDevice, anArchitecture } from '../arguments/forms.js';
import type { Batch, CachePlace } from './batch.js';

/** Rows of some tensors from one on. */
interface Rows {
  readonly start: number;
  readonly tensors: readonly Tensor[];
}

/** Keys and values of all layers, and the scope that owns them. */
interface Store {
  readonly scope: Scope;
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
}

/** Keeps keys and values of one or several sequences, layer by layer, for generation token by token. */
export class KvCache {
  readonly #device: Device;
  readonly #arch: Architecture;
  readonly #lengths: number[];
  #capacity: number;
  #store: Store;

  /**
   * Allocates room for `capacity` tokens in each of `places` places (default: one): 2 x layers x places x capacity x kvHeads x
   * headDim f32 values (headDim: a multiple of 4).
   */
  constructor(device: Device, arch: Architecture, capacity: number, places = 1) {
    checkArguments(
      'KvCache',
      { device, arch, capacity, places },
      { device: aDevice, arch: anArchitecture, capacity: whole(), places: whole(1, 2 ** 20) },
    );
    this.#device = device;
    this.#arch = arch;
    this.#lengths = new Array<number>(places).fill(0);
    this.#capacity = capacity;
    this.#store = this.#allocate(capacity);
  }

  #allocate(capacity: number): Store {
    const { layers, kvHeads } = this.#arch;
    const columns = kvHeads * storedHeadDim(this.#arch);
    const rows = capacity * this.#lengths.length;
    const scope = new Scope(this.#device);
    const make = (what: string) =>
      Array.from({ length: layers }, () => scope.tensor([rows, columns], 'f32', `cached ${what}`));
    try {
      return { scope, keys: make('keys'), values: make('values') };
    } catch (error) {
      scope.dispose();
      throw error;
    }
  }

  get #aPlace(): Form<number> {
    return whole(0, this.#lengths.length - 1);
  }

  /** Tokens that fit in each place. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Tokens in place 0. */
  get length(): number {
    return this.#lengths[0]!;
  }

  /** Keys and values of a layer, [places * capacity, kvDim] each; a place's rows beyond its tokens are unused. */
  layer(layer: number): { keys: Tensor; values: Tensor } {
    checkArguments('KvCache.layer', { layer }, { layer: whole(0, this.#arch.layers - 1) });
    return { keys: this.#store.keys[layer]!, values: this.#store.values[layer]! };
  }

  /** Where the sequences in these places are, for a `Batch`. */
  places(places: readonly number[]): CachePlace[] {
    checkArguments('KvCache.places', { places }, { places: listOf(this.#aPlace) });
    return places.map(place => ({ place, start: place * this.#capacity, past: this.#lengths[place]! }));
  }

  /**
   * Grows to a capacity of at least `capacity` tokens, copying the content.
   *
   * @throws RmError OUT_OF_MEMORY; the cache is then unchanged.
   */
  grow(capacity: number): void {
    checkArguments('KvCache.grow', { capacity }, { capacity: whole() });
    if (capacity <= this.#capacity) return;
    const { scope, keys, values } = this.#store;
    const larger = this.#allocate(capacity);
    for (const [place, length] of this.#lengths.entries()) {
      const from = { start: place * this.#capacity, tensors: [...keys, ...values] };
      this.#copy(from, { start: place * capacity, tensors: [...larger.keys, ...larger.values] }, length);
    }
    scope.dispose();
    this.#store = larger;
    this.#capacity = capacity;
  }

  /** Gives place `to` the tokens of place `from`. */
  copy(from: number, to: number): void {
    checkArguments('KvCache.copy', { from, to }, { from: this.#aPlace, to: this.#aPlace });
    const length = this.#lengths[from]!;
    this.#lengths[to] = length;
    for (const tensor of [...this.#store.keys, ...this.#store.values]) {
      // WebGPU copies nothing within one buffer.
      using between = Tensor.create(this.#device, [length, tensor.columns], 'f32', 'keys or values');
      const { recorder } = this.#device;
      recorder.copy(tensor.rows(from * this.#capacity, length), between);
      recorder.copy(between, tensor.rows(to * this.#capacity, length));
    }
  }

  #copy(from: Rows, to: Rows, count: number): void {
    for (const [i, tensor] of from.tensors.entries()) {
      this.#device.recorder.copy(tensor.rows(from.start, count), to.tensors[i]!.rows(to.start, count));
    }
  }

  /** Forgets all but the first `length` tokens of a place. */
  truncate(length: number, place = 0): void {
    checkArguments('KvCache.truncate', { length, place }, { length: whole(), place: this.#aPlace });
    this.#lengths[place] = Math.min(this.#lengths[place]!, length);
  }

  /** @throws RmError INVALID_ARGUMENT unless a batch's tokens fit. */
  requireRoom(batch: Pick<Batch, 'sequences' | 'places'>): void {
    checkArguments('KvCache.requireRoom', { batch }, { batch: aBatch });
    const { sequences, places } = batch;
    for (const [s, { past }] of places.entries()) {
      const needed = past + sequences[s]!.length;
      if (needed <= this.capacity) continue;
      throw new RmError(
        'INVALID_ARGUMENT',
        `the KV cache holds ${this.capacity} tokens, ${needed} are needed`,
        'Generate fewer tokens or shorten the prompt.',
      );
    }
  }

  /** Counts a batch's tokens; call once after all layers have stored their keys and values. */
  advance(batch: Pick<Batch, 'sequences' | 'places'>): void {
    checkArguments('KvCache.advance', { batch }, { batch: aBatch });
    const { sequences, places } = batch;
    for (const [s, { place, past }] of places.entries()) this.#lengths[place] = past + sequences[s]!.length;
  }

  /** Frees its tensors. */
  dispose(): void {
    this.#store.scope.dispose();
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}
