import type { Progress, ProgressEvent } from '../../engine/index.js';
import { healsAfter } from '../methods/method.js';
import type { PlannedPhase } from '../planning/timePlan.js';
import type { PruneRequest } from '../request/request.js';
import type { PhaseName } from '../run/phaseClock.js';
import { type ExpectedWork, RunForecast } from '../run/runForecast.js';

/** Events of a phase in their order, and about how long each part takes beside the others (on the demo model). */
type Parts = readonly (readonly [name: string, weight: number])[];

function partsOf(phase: PhaseName, request: PruneRequest): Parts {
  const { selection, budget } = request;
  if (phase === 'evaluate') {
    const each = (name: string, weight: number) => Array.from({ length: 3 }, () => [name, weight] as const);
    return [['reference', 4], ...each('evaluate', 4), ['damage by layer', 2], ...each('samples', 8)];
  }
  if (phase === 'select' && budget) return [['numbers of layers', 1]];
  if (phase !== 'select' || selection.name !== 'measured') return [];
  return [
    ...[['window map', 8] as const, ['window map', 1] as const],
    ...[['reference', 1] as const, ['reference', 1] as const],
    ...[['windows', 4] as const, ['candidates', 3] as const],
    ['finalists', healsAfter(request) ? 16 : 10],
  ];
}

/** A planned phase with its parts, where it has some. */
function withParts(phase: PlannedPhase, request: PruneRequest): ExpectedWork {
  const parts = partsOf(phase.name, request);
  if (parts.length === 0) return phase;
  const total = parts.reduce((sum, [, weight]) => sum + weight, 0);
  return {
    ...phase,
    parts: parts.map(([name, weight]) => ({ name, seconds: (phase.seconds * weight) / total })),
  };
}

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
    request: PruneRequest,
  ) {
    const secondsOf = (phase: PhaseName) => planned.find(({ name }) => name === phase)?.seconds ?? 0;
    const expected = planned
      .filter(({ name }) => steps.includes(name))
      // Closed-form healing is a part of the fit.
      .map(phase =>
        phase.name === 'fit' && !steps.includes('heal')
          ? { ...phase, seconds: phase.seconds + secondsOf('heal') }
          : phase,
      )
      .map(phase => withParts(phase, request));
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
