import { type Device, RmError, Scope, type Tensor } from '../../engine/index.js';
import { type Architecture, storedHeadDim } from '../architecture/architecture.js';

/** Keys and values of all layers, and the scope that owns them. */
interface Store {
  readonly scope: Scope;
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
}

/** Keeps keys and values of one sequence, layer by layer, for generation token by token. */
export class KvCache {
  readonly #device: Device;
  readonly #arch: Architecture;
  #capacity: number;
  #store: Store;
  #length = 0;

  /** Allocates room for `capacity` tokens: 2 x layers x capacity x kvHeads x headDim f32 values (headDim: a multiple of 4). */
  constructor(device: Device, arch: Architecture, capacity: number) {
    this.#device = device;
    this.#arch = arch;
    this.#capacity = capacity;
    this.#store = this.#allocate(capacity);
  }

  #allocate(capacity: number): Store {
    const { layers, kvHeads } = this.#arch;
    const columns = kvHeads * storedHeadDim(this.#arch);
    const scope = new Scope(this.#device);
    const make = (what: string) =>
      Array.from({ length: layers }, () => scope.tensor([capacity, columns], 'f32', `cached ${what}`));
    try {
      return { scope, keys: make('keys'), values: make('values') };
    } catch (error) {
      scope.dispose();
      throw error;
    }
  }

  /** Tokens that fit in the cache. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Tokens in the cache. */
  get length(): number {
    return this.#length;
  }

  /** Keys and values of a layer, [capacity, kvDim] each; rows from `length` on are unused. */
  layer(layer: number): { keys: Tensor; values: Tensor } {
    return { keys: this.#store.keys[layer]!, values: this.#store.values[layer]! };
  }

  /**
   * Grows to a capacity of at least `capacity` tokens, copying the content.
   *
   * @throws RmError OUT_OF_MEMORY; the cache is then unchanged.
   */
  grow(capacity: number): void {
    if (capacity <= this.#capacity) return;
    const { scope, keys, values } = this.#store;
    const larger = this.#allocate(capacity);
    if (this.#length > 0) {
      const { recorder } = this.#device;
      const move = (from: readonly Tensor[], to: readonly Tensor[]) => {
        for (const [i, tensor] of from.entries()) {
          recorder.copy(tensor.rows(0, this.#length), to[i]!.rows(0, this.#length));
        }
      };
      move(keys, larger.keys);
      move(values, larger.values);
    }
    scope.dispose();
    this.#store = larger;
    this.#capacity = capacity;
  }

  /** Forgets all but the first `length` tokens. */
  truncate(length: number): void {
    this.#length = Math.min(this.#length, length);
  }

  /** @throws RmError INVALID_ARGUMENT unless `count` more tokens fit. */
  requireRoom(count: number): void {
    if (this.#length + count <= this.capacity) return;
    throw new RmError(
      'INVALID_ARGUMENT',
      `the KV cache holds ${this.capacity} tokens, ${this.#length + count} are needed`,
      'Generate fewer tokens or shorten the prompt.',
    );
  }

  /** Adds `count` to the length; call once after all layers have stored their keys and values. */
  advance(count: number): void {
    this.#length += count;
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
