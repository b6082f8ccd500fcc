import { seededRandom } from '../../engine/random.js';

/** Random choices that a seed repeats on every machine. */
export class Random {
  readonly #next: () => number;

  /** The choices for input `index` of a run with `seed`. */
  constructor(seed: number, index = 0) {
    this.#next = seededRandom(Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b));
  }

  /** A whole number of at least 0, below `end` (0 for an `end` of 0). */
  below(end: number): number {
    return Math.floor(this.#next() * end);
  }

  chance(probability: number): boolean {
    return this.#next() < probability;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** Mostly small, seldom large: below 2^k for a k below `bits`. */
  size(bits: number): number {
    return this.below(2 ** (1 + this.below(bits)));
  }
}
