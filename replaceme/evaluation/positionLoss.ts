import type { LiveState } from '../../engine/index.js';

/** Mean -log p(next token) in nats of the predictions at positions `from` to `to` of a sequence, counted from 0. */
export interface PositionLoss {
  /** Inclusive; powers of two: 0, 1, 2..3, 4..7, ... */
  readonly from: number;
  readonly to: number;
  readonly predictions: number;
  readonly nll: number;
}

/** Accumulates losses by position; pass `add` to `evaluate` as `onLosses`. */
export class PositionLosses implements LiveState {
  /** Bucket b > 0 begins at position 2^(b-1). */
  readonly #sums: { predictions: number; nll: number }[] = [];

  /** @param nll -log p(next token) for every token of `sequences`, concatenated; ignores the last token of each. */
  readonly add = (sequences: readonly { readonly length: number }[], nll: Float32Array): void => {
    let first = 0;
    for (const { length } of sequences) {
      for (let position = 0; position + 1 < length; position++) {
        const bucket = position === 0 ? 0 : 1 + Math.floor(Math.log2(position));
        this.#sums[bucket] ??= { predictions: 0, nll: 0 };
        this.#sums[bucket].predictions++;
        this.#sums[bucket].nll += nll[first + position]!;
      }
      first += length;
    }
  };

  save(): unknown {
    return this.#sums;
  }

  restore(saved: readonly { predictions: number; nll: number }[]): void {
    this.#sums.push(...saved);
  }

  /** Mean losses, by position. */
  get losses(): PositionLoss[] {
    return this.#sums.map(({ predictions, nll }, bucket) => ({
      from: bucket === 0 ? 0 : 2 ** (bucket - 1),
      to: bucket === 0 ? 0 : 2 ** bucket - 1,
      predictions,
      nll: nll / predictions,
    }));
  }
}
