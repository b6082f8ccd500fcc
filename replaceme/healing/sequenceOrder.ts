import { seededRandom, shuffle } from '../../engine/index.js';

/** A piece of text to train on. */
export interface TrainingSequence {
  readonly ids: readonly number[];
  /** How much each of its predictions counts. */
  readonly weight: number;
}

/** Where in the texts a run is: everything before has been used. */
export interface OrderPosition {
  /** Times that all sequences have been used. */
  readonly epoch: number;
  /** Sequences used of this epoch. */
  readonly used: number;
}

/** 0 .. length-1 in a random order, another for every seed and epoch. */
function shuffled(length: number, seed: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length }, (_, i) => i);
  shuffle(order, seededRandom(seed + Math.imul(epoch, 0x9e3779b9)));
  return order;
}

/**
 * The sequences in a random order, all of them once before any comes again. What comes next depends on the seed and
 * the position alone, so that a run can go on from a position as if it had never stopped.
 */
export class SequenceOrder {
  #order: Uint32Array;

  constructor(
    private readonly sequences: readonly TrainingSequence[],
    private readonly seed: number,
    private at: OrderPosition = { epoch: 0, used: 0 },
  ) {
    this.#order = shuffled(sequences.length, seed, at.epoch);
  }

  get position(): OrderPosition {
    return this.at;
  }

  /** The sequences that follow: at most `tokens` tokens of them, and at least one. */
  next(tokens: number): TrainingSequence[] {
    const taken: TrainingSequence[] = [];
    for (let sum = 0; ; ) {
      const { epoch, used } = this.at;
      const sequence = this.sequences[this.#order[used]!]!;
      sum += sequence.ids.length;
      if (taken.length > 0 && sum > tokens) return taken;
      taken.push(sequence);
      this.at = { epoch, used: used + 1 };
      if (this.at.used < this.#order.length) continue;
      this.at = { epoch: epoch + 1, used: 0 };
      this.#order = shuffled(this.#order.length, this.seed, this.at.epoch);
    }
  }
}
