import { seededRandom, shuffle } from '../../engine/index.js';

/** A token sequence to train on. */
export interface TrainingSequence {
  readonly ids: readonly number[];
  /** How much each of its predictions counts. */
  readonly weight: number;
}

/** A run's position in the texts. */
export interface OrderPosition {
  /** Number of completed passes over all sequences. */
  readonly epoch: number;
  /** Number of sequences used in this epoch. */
  readonly used: number;
}

/** 0 .. length-1 in a random order that depends on seed and epoch. */
function shuffled(length: number, seed: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length }, (_, i) => i);
  shuffle(order, seededRandom(seed + Math.imul(epoch, 0x9e3779b9)));
  return order;
}

/**
 * Draws sequences in a random order, each once per epoch. The next ones depend only on seed and position, so a resumed run
 * continues as if it had never stopped.
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

  /** The next sequences: at most `tokens` tokens, but at least one sequence. */
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
