import { type Device, RmError, Scope, type Tensor } from '../engine/index.js';
import type { Architecture } from './architecture.js';

/** Keys and values of one sequence, layer by layer, for generation token by token. */
export class KvCache {
  readonly #scope: Scope;
  readonly #keys: readonly Tensor[];
  readonly #values: readonly Tensor[];
  #length = 0;

  /** Room for `capacity` tokens: 2 x layers x capacity x kvHeads x headDim f32 values. */
  constructor(
    device: Device,
    arch: Architecture,
    readonly capacity: number,
  ) {
    this.#scope = new Scope(device);
    const make = (what: string) =>
      Array.from({ length: arch.layers }, () =>
        this.#scope.tensor([capacity, arch.kvHeads * arch.headDim], 'f32', `cached ${what}`),
      );
    try {
      this.#keys = make('keys');
      this.#values = make('values');
    } catch (error) {
      this.#scope.dispose();
      throw error;
    }
  }

  /** Tokens in the cache. */
  get length(): number {
    return this.#length;
  }

  /** Keys and values of a layer [capacity, kvDim] each; rows from `length` on hold nothing yet. */
  layer(layer: number): { keys: Tensor; values: Tensor } {
    return { keys: this.#keys[layer]!, values: this.#values[layer]! };
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

  /** Counts `count` more tokens; call once after all layers have stored their keys and values. */
  advance(count: number): void {
    this.#length += count;
  }

  dispose(): void {
    this.#scope.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
