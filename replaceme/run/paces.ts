import type { Phase, PhaseName } from './phaseClock.js';

/** Seconds that phases took for each second that rates and operations alone predict. */
export type Paces = Readonly<Partial<Record<PhaseName, number>>>;

/** Remembers paces of finished runs on a device. */
export interface PaceStore {
  /** Of the last run that was like this one. */
  paces(likeness: string): Paces | undefined;
  /** Of a run that has finished. */
  keep(likeness: string, paces: Paces): Promise<void>;
}

/** A phase that ran otherwise than planned, or for too short a time, says nothing. */
const LEAST_SECONDS = 1e-3;

/**
 * The paces of a run that has finished.
 *
 * @param planned with the paces `before`, as far as the phases ran as planned.
 */
export function learnedPaces(
  before: Paces,
  planned: readonly Pick<Phase, 'name' | 'seconds'>[],
  took: readonly Pick<Phase, 'name' | 'seconds'>[],
): Paces {
  const learned = planned.flatMap(({ name, seconds }) => {
    const real = took.find(phase => phase.name === name)?.seconds ?? 0;
    return seconds > LEAST_SECONDS && real > LEAST_SECONDS
      ? [[name, ((before[name] ?? 1) * real) / seconds]]
      : [];
  });
  return { ...before, ...Object.fromEntries(learned) };
}
