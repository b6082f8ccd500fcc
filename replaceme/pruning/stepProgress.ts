import type { Progress, ProgressEvent } from '../../engine/index.js';
import type { PlannedPhase } from '../planning/timePlan.js';
import type { PhaseName } from '../run/phaseClock.js';
import { RunForecast } from '../run/runForecast.js';

const now = (): number => performance.now() / 1000;

/** Reports the phases of a run as its steps, with the time that the rest of the run will take. */
export class StepProgress {
  readonly #forecast: RunForecast;

  /**
   * @param steps the phases that the run will have, in order.
   * @param planned as far as it is known how long they take.
   */
  constructor(
    private readonly onProgress: Progress | undefined,
    private readonly steps: readonly PhaseName[],
    planned: readonly PlannedPhase[],
  ) {
    const secondsOf = (phase: PhaseName) => planned.find(({ name }) => name === phase)?.seconds ?? 0;
    const expected = planned
      .filter(({ name }) => steps.includes(name))
      // Closed-form healing is a part of the fit.
      .map(phase =>
        phase.name === 'fit' && !steps.includes('heal')
          ? { ...phase, seconds: phase.seconds + secondsOf('heal') }
          : phase,
      );
    this.#forecast = new RunForecast(expected);
  }

  /** Says that a phase has begun, or ended. */
  readonly turn = (phase: PhaseName, ended: boolean): void => {
    if (ended) this.#forecast.end(now());
    else this.#forecast.begin(phase, now());
    this.#report(phase, { phase, done: 0, total: 0, unit: '' }, ended);
  };

  /** Passes on what work within a phase reports. */
  add(phase: PhaseName | undefined, event: ProgressEvent): void {
    if (phase === undefined) {
      this.onProgress?.(event);
      return;
    }
    this.#forecast.begin(phase, now());
    this.#forecast.observe(event, now());
    this.#report(phase, event, false);
  }

  #report(name: PhaseName, event: ProgressEvent, ended: boolean): void {
    const index = this.steps.indexOf(name) + 1;
    if (index === 0) {
      if (event.total > 0) this.onProgress?.(event);
      return;
    }
    const step = { index, of: this.steps.length, name, secondsLeft: this.#forecast.secondsLeft };
    this.onProgress?.({ ...event, step: ended ? { ...step, done: true } : step });
  }
}
