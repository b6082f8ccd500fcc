import type { LiveState } from '../../engine/index.js';

/** Means of |L' - L|² / |L|² over ordinary tokens and, separately, over attention sinks. */
export class RelativeErrors implements LiveState {
  #ordinary = 0;
  #ordinaryTokens = 0;
  #sinks = 0;
  #sinkTokens = 0;

  save(): unknown {
    return [this.#ordinary, this.#ordinaryTokens, this.#sinks, this.#sinkTokens];
  }

  restore(saved: readonly [number, number, number, number]): void {
    [this.#ordinary, this.#ordinaryTokens, this.#sinks, this.#sinkTokens] = saved;
  }

  /**
   * Adds tokens. A token of norm 0 counts as error 0.
   *
   * @param norms |L| of every token.
   * @param errors |L' - L|.
   * @param sinks which of them are attention sinks.
   */
  add(norms: Float32Array, errors: Float32Array, sinks: readonly boolean[]): void {
    for (const [t, norm] of norms.entries()) {
      const share = norm > 0 ? (errors[t]! / norm) ** 2 : 0;
      if (sinks[t]) {
        this.#sinks += share;
        this.#sinkTokens++;
      } else {
        this.#ordinary += share;
        this.#ordinaryTokens++;
      }
    }
  }

  /** 0 where there are none. */
  get ordinary(): number {
    return this.#ordinary / Math.max(1, this.#ordinaryTokens);
  }

  /** Undefined where there are none. */
  get sinks(): number | undefined {
    return this.#sinkTokens > 0 ? this.#sinks / this.#sinkTokens : undefined;
  }
}
