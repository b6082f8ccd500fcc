import { RmError } from '../../engine/index.js';
import type { HeldOutPoint, TrainingStep } from './trainingRecord.js';

/** So many steps in a row without a finite gradient end a run. */
export const MOST_SKIPPED = 5;

/** Steps that a mean loss is taken over: at the beginning, and of those just done. */
const [FIRST, RECENT] = [5, 8];

/** A loss that is still a run on its way: half as much again as at first, and what chance makes of small ones. */
const bearable = (first: number): number => 1.5 * first + 0.1;

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

const number = (value: number): string => value.toPrecision(3);

/** Looks at a run's losses as they come and ends it where they leave all bounds. */
export class DivergenceWatch {
  /** @param steps of the run, added to from outside. @param remedy what to do about it, in a sentence or two. */
  constructor(
    private readonly steps: readonly TrainingStep[],
    private readonly remedy: () => string = () => 'Use a smaller learning rate (`learningRate`).',
  ) {}

  get #losses(): number[] {
    return this.steps.flatMap(({ loss }) => (loss === null ? [] : [loss]));
  }

  /** Whether the run is no worse than it began, as far as chance lets that be seen. */
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
        `healing has diverged: loss or gradient of ${MOST_SKIPPED} steps in a row, the last of them ${steps.length}, ` +
          'are not finite',
      );
    }
    const losses = this.#losses;
    if (losses.length < FIRST + RECENT) return;
    const [first, recent] = [mean(losses.slice(0, FIRST)), mean(losses.slice(-RECENT))];
    if (recent > bearable(first)) {
      throw this.#diverged(
        `healing has diverged: the loss was ${number(first)} at first and is ${number(recent)} at step ${steps.length}`,
      );
    }
  }

  /** After every measure of the held-out text. @throws RmError DIVERGED. */
  checkHeldOut(points: readonly HeldOutPoint[]): void {
    const [first, last] = [points[0]!, points.at(-1)!];
    const [before, now] = [first.kl ?? first.nll, last.kl ?? last.nll];
    if (now <= bearable(before)) return;
    const what = first.kl === undefined ? 'loss' : 'KL';
    throw this.#diverged(
      `healing has diverged: the held-out ${what} was ${number(before)} before it and is ${number(now)} after step ` +
        `${last.step}`,
    );
  }

  #diverged(message: string): RmError {
    return new RmError('DIVERGED', message, this.remedy());
  }
}
