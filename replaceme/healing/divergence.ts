import { RmError } from '../../engine/index.js';
import type { HeldOutPoint, TrainingStep } from '../run/trainingRecord.js';

/** A run ends after this many steps in a row without a finite gradient. */
export const MOST_SKIPPED = 5;

/** Mean losses are taken over this many first steps, and this many most recent steps. */
const [FIRST, RECENT] = [5, 8];

/** The highest acceptable loss: half again as much as at first, plus noise, which matters for small losses. */
const highest = (first: number): number => 1.5 * first + 0.1;

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

const number = (value: number): string => value.toPrecision(3);

/** Watches a run's losses and ends the run when they diverge. */
export class DivergenceWatch {
  /** @param steps the run's steps; the loop appends to them. @param remedy advice for a diverged run, a sentence or two. */
  constructor(
    private readonly steps: readonly TrainingStep[],
    private readonly remedy: () => string = () => 'Use a smaller learning rate (`learningRate`).',
  ) {}

  get #losses(): number[] {
    return this.steps.flatMap(({ loss }) => (loss === null ? [] : [loss]));
  }

  /** Whether the run is no worse than at its beginning, apart from noise. */
  isGood(): boolean {
    const losses = this.#losses;
    if (this.steps.at(-1)?.gradientNorm === null) return false;
    return losses.length === 0 || mean(losses.slice(-RECENT)) <= 1.1 * mean(losses.slice(0, FIRST)) + 0.02;
  }

  /** After every step. @throws RmError DIVERGED. */
  check(): void {
    const { steps } = this;
    const last = steps.slice(-MOST_SKIPPED);
    if (last.length === MOST_SKIPPED && last.every(({ gradientNorm }) => gradientNorm === null)) {
      throw this.#diverged(
        `healing has diverged: loss or gradient were not finite in ${MOST_SKIPPED} steps in a row, up to step ` +
          `${steps.length}`,
      );
    }
    const losses = this.#losses;
    if (losses.length < FIRST + RECENT) return;
    const [first, recent] = [mean(losses.slice(0, FIRST)), mean(losses.slice(-RECENT))];
    if (recent > highest(first)) {
      throw this.#diverged(
        `healing has diverged: the loss was ${number(first)} at first and is ${number(recent)} at step ${steps.length}`,
      );
    }
  }

  /** After every measurement of the held-out text. @throws RmError DIVERGED. */
  checkHeldOut(points: readonly HeldOutPoint[]): void {
    const [first, last] = [points[0]!, points.at(-1)!];
    const [before, now] = [first.kl ?? first.nll, last.kl ?? last.nll];
    if (now <= highest(before)) return;
    const what = first.kl === undefined ? 'loss' : 'KL';
    throw this.#diverged(
      `healing has diverged: the held-out ${what} was ${number(before)} at first and is ${number(now)} after step ` +
        `${last.step}`,
    );
  }

  #diverged(message: string): RmError {
    return new RmError('DIVERGED', message, this.remedy());
  }
}
