import type { ProgressEvent } from '../../engine/index.js';

/** Work of a run that is expected to take some time. */
export interface ExpectedWork {
  readonly name: string;
  readonly seconds: number;
  /** What it consists of, by the names of its progress events, in order; a name may come more than once. */
  readonly parts?: readonly { readonly name: string; readonly seconds: number }[];
}

/** How much the plan counts beside what was measured: as if this share of the work had been done as planned. */
const TRUST = 0.03;

/** Work that seems to run this many times faster than expected was done by an earlier process. */
const TOO_FAST = 10;

/** The phase in progress. */
interface CurrentPhase {
  readonly name: string;
  readonly began: number;
  readonly planned: ExpectedWork | undefined;
  /** Share of the work that is done, and when that was known. */
  share: number;
  at: number;
  /** The same at its first event: a resumed run begins with a part done. */
  first?: { readonly share: number; readonly at: number };
  /** The part in progress, and its last event. */
  part: number;
  last?: ProgressEvent;
}

/**
 * Tells how long the rest of a run will take: as planned, corrected by how long the work has taken so far. Times are in
 * seconds on any clock.
 */
export class RunForecast {
  readonly #total: number;
  #current: CurrentPhase | undefined;
  /** Finished phases: seconds that they took, and that were planned. */
  #took = 0;
  #planned = 0;

  /** @param phases in the order in which they run. */
  constructor(private readonly phases: readonly ExpectedWork[]) {
    this.#total = phases.reduce((sum, { seconds }) => sum + seconds, 0);
  }

  /** Begins a phase, unless it is in progress. */
  begin(name: string, now: number): void {
    if (this.#current?.name === name) return;
    this.end(now);
    const planned = this.phases.find(phase => phase.name === name);
    this.#current = { name, began: now, planned, share: 0, at: now, part: 0 };
  }

  /** Ends the phase in progress. */
  end(now: number): void {
    const { began, planned, first } = this.#current ?? {};
    // A phase without events that an earlier process has finished took no time.
    if (planned && began !== undefined && (first || now - began > TRUST * planned.seconds)) {
      this.#took += now - (first && first.share > 0 ? first.at : began);
      this.#planned += (1 - (first?.share ?? 0)) * planned.seconds;
    }
    this.#current = undefined;
  }

  /** How far the phase in progress is. */
  observe(event: ProgressEvent, now: number): void {
    const current = this.#current;
    if (!current || event.total === 0) return;
    const share = shareOf(current, event);
    if (share === undefined) return;
    current.share = Math.max(current.share, share);
    current.at = now;
    const expected = share * (current.planned?.seconds ?? 0) * this.#pace;
    const isResumed = TOO_FAST * (now - current.began) < expected;
    current.first ??= event.done > 0 && !isResumed ? { share: 0, at: current.began } : { share, at: now };
  }

  /** What the phase in progress took so far, and how many seconds of the plan that is. */
  get #measured(): { readonly took: number; readonly done: number } {
    const { planned, share = 0, at = 0, first } = this.#current ?? {};
    if (!first) return { took: 0, done: 0 };
    return { took: at - first.at, done: (share - first.share) * (planned?.seconds ?? 0) };
  }

  /** Seconds for each second of the plan. */
  get #pace(): number {
    const { took, done } = this.#measured;
    const trusted = TRUST * this.#total;
    return (trusted + this.#took + took) / (trusted + this.#planned + done || 1);
  }

  /** Seconds until the run is done. */
  get secondsLeft(): number {
    const { name, planned, share = 0 } = this.#current ?? {};
    const seconds = planned?.seconds ?? 0;
    const { took, done } = this.#measured;
    const pace = this.#pace;
    const ownPace = (TRUST * seconds * pace + took) / (TRUST * seconds + done || 1);
    const next = this.phases.findIndex(phase => phase.name === name) + 1;
    const later = this.phases.slice(next).reduce((sum, phase) => sum + phase.seconds, 0);
    return (1 - share) * seconds * ownPace + later * pace;
  }
}

/** The share of a phase that is done; undefined for an event that does not tell. */
function shareOf(current: CurrentPhase, event: ProgressEvent): number | undefined {
  const { planned } = current;
  const ofEvent = Math.min(1, event.done / event.total);
  if (!planned?.parts) {
    // Whatever runs within the outermost work tells nothing about the phase.
    current.last ??= event;
    if (current.last.phase !== event.phase) return undefined;
    return ofEvent;
  }
  const { parts } = planned;
  const again = current.last?.phase === event.phase && event.done < current.last.done;
  const from = current.part + Number(again);
  const found = parts.findIndex(({ name }, p) => p >= from && name === event.phase);
  if (found < 0) return undefined;
  current.part = found;
  current.last = event;
  const before = parts.slice(0, found).reduce((sum, { seconds }) => sum + seconds, 0);
  return (before + ofEvent * parts[found]!.seconds) / planned.seconds;
}
