import {
  evaluate,
  type Model,
  type ReferenceOptions,
  ReferenceStates,
  totalTokens,
} from '../../model/index.js';
import type { RunHooks } from '../run/runHooks.js';
import type { WindowScores } from '../run/windowChoice.js';

/** What held-out tokens say of a model, and how many of them. */
export type Scores = Pick<WindowScores, 'kl' | 'nll' | 'tokens'>;

/** Judges models by held-out sequences: by the first of them, or by all. */
export class Judges implements Disposable {
  private constructor(
    private readonly first: ReferenceStates,
    private readonly rest: ReferenceStates | undefined,
    private readonly hooks: Pick<RunHooks, 'signal' | 'journal'>,
  ) {}

  /** Runs the original model over the sequences. @param share of their tokens that are the first. */
  static async of(
    model: Model,
    heldOut: readonly (readonly number[])[],
    share: number,
    options: ReferenceOptions,
  ): Promise<Judges> {
    let left = share * totalTokens(heldOut);
    const count = heldOut.findIndex(({ length }) => {
      left -= length;
      return left <= 0;
    });
    const [some, others] = [heldOut.slice(0, count + 1), heldOut.slice(count + 1)];
    // Room for states between layers is shared as the tokens are.
    const room = (part: typeof heldOut) =>
      ((options.stateBytes ?? 0) * totalTokens(part)) / totalTokens(heldOut);
    const first = await ReferenceStates.of(model, some, { ...options, stateBytes: room(some) });
    try {
      const rest =
        others.length > 0
          ? await ReferenceStates.of(model, others, { ...options, stateBytes: room(others) })
          : undefined;
      const { signal, journal } = options;
      return new Judges(first, rest, { ...(signal && { signal }), ...(journal && { journal }) });
    } catch (error) {
      first.dispose();
      throw error;
    }
  }

  /** By the first sequences. */
  byFirst(model: Model): Promise<Scores> {
    return this.#by(model, [this.first]);
  }

  /** By all sequences. */
  byAll(model: Model): Promise<Scores> {
    return this.#by(model, [this.first, ...(this.rest ? [this.rest] : [])]);
  }

  async #by(model: Model, parts: readonly ReferenceStates[]): Promise<Scores> {
    const sums = { kl: 0, nll: 0, tokens: 0, predictions: 0 };
    for (const against of parts) {
      const { kl, nll, tokens, predictions } = await evaluate(model, against.sequences, {
        against,
        ...this.hooks,
      });
      sums.kl += kl! * predictions;
      sums.nll += nll * predictions;
      sums.tokens += tokens;
      sums.predictions += predictions;
    }
    const { kl, nll, tokens, predictions } = sums;
    return { kl: kl / predictions, nll: nll / predictions, tokens };
  }

  [Symbol.dispose](): void {
    this.first.dispose();
    this.rest?.dispose();
  }
}
