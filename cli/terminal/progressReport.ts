import type { Progress, ProgressEvent } from '../../engine/progress.js';
import { formatFinished, formatProgress, formatStopped, type MemoryUse, titleOf } from './progressLine.js';
import type { Terminal } from './terminal.js';
import { styled } from './text.js';

/** Shorter work is not shown. */
const PATIENCE_MS = 2000;
const LIVE_EVERY_MS = 100;
const PLAIN_EVERY_MS = 30_000;
const TICK_MS = 1000;
/** Growth over a shorter time says nothing about the time left. */
const RATED_MS = 1000;

/** Shows progress when called with an event. */
export interface ProgressReport extends Progress {
  /** Announces work of this many steps. Events that name no step of their own belong to the current one. */
  steps(of: number): void;
  /** Begins the next step. */
  nextStep(): void;
  /** Shows the use of this memory from now on. */
  watch(memory: MemoryUse | undefined): void;
  /** How far the work is, for failures: "during 'statistics' at 41 %", "after 'load'"; undefined before the first event. */
  place(): string | undefined;
  /** Ends all open phases. @param completed whether the work is done; else they are shown as stopped. */
  end(completed: boolean): void;
}

/** Where a report gets the time and its ticks from. */
export interface ProgressClock {
  /** Milliseconds. */
  now(): number;
  /** Calls `tick` every so often until the result is called. */
  every(milliseconds: number, tick: () => void): () => void;
}

const systemClock: ProgressClock = {
  now: () => performance.now(),
  every: (milliseconds, tick) => {
    const timer = setInterval(tick, milliseconds).unref();
    return () => clearInterval(timer);
  },
};

/** A phase that has begun and not ended. Another may run within it, such as a forward pass for one of many candidates. */
interface OpenPhase {
  readonly event: ProgressEvent;
  readonly began: number;
  /** Its first event, and the time of that and of the last one. */
  readonly first: ProgressEvent;
  readonly firstAt: number;
  readonly at: number;
}

const isDone = ({ done, total }: ProgressEvent): boolean => total > 0 && done >= total;

/** Expected milliseconds until a phase is done, from how it has grown; undefined where that says nothing yet. */
function leftByGrowth({ event, first, firstAt, at }: OpenPhase): number | undefined {
  const grown = event.done - first.done;
  if (event.total === 0 || grown <= 0 || at - firstAt < RATED_MS) return undefined;
  return ((event.total - event.done) * (at - firstAt)) / grown;
}

/** What is left of a forecast some time later. It slows down near its end, which may come later than expected. */
const leftAfter = (forecast: number, passed: number): number => forecast * Math.exp(-passed / forecast || 0);

/** The work of one line: a step with a name and all phases in it, else a phase. */
class Work {
  /** The outermost first. */
  readonly phases = new Map<string, OpenPhase>();

  constructor(
    readonly began: number,
    public last: ProgressEvent,
  ) {}

  get isNamed(): boolean {
    return this.last.step?.name !== undefined;
  }

  get outermost(): OpenPhase | undefined {
    return this.phases.values().next().value;
  }
}

/** The lines of a report: what is going on, and what has ended. */
class ProgressLines {
  /** By title, in the order in which they began. */
  readonly #works = new Map<string, Work>();
  readonly #began: number;
  #shownAt: number;
  /** Time of the last event. A new phase began then: its first event comes when its first part is done. */
  #previous: number;
  #forecast: { readonly left: number; readonly at: number } | undefined;
  #stopTicking: (() => void) | undefined;
  memory: MemoryUse | undefined;

  constructor(
    private readonly terminal: Terminal,
    private readonly clock: ProgressClock,
  ) {
    this.#began = clock.now();
    this.#shownAt = this.#began;
    this.#previous = this.#began;
  }

  /** Whether the work of an event is going on. */
  isOpen(event: ProgressEvent): boolean {
    return this.#works.has(titleOf(event));
  }

  add(event: ProgressEvent): void {
    const at = this.clock.now();
    const { step } = event;
    if (!this.terminal.quiet) this.#stopTicking ??= this.clock.every(TICK_MS, () => this.#tick());
    if (step?.secondsLeft !== undefined) this.#forecast = { left: 1000 * step.secondsLeft, at };
    if (!step?.done) this.#update(event, at);
    this.#previous = at;
    const ended = step?.done ?? (step?.name === undefined && isDone(event));
    if (ended) this.#finish(titleOf(event), at);
    const wait = this.terminal.isLive ? LIVE_EVERY_MS : PLAIN_EVERY_MS;
    if (this.#isDue(wait)) this.#show();
  }

  /** @param completed whether the work is done; else it is shown as stopped. */
  end(completed: boolean): void {
    this.#stopTicking?.();
    this.#stopTicking = undefined;
    this.terminal.clearLive();
    const [first] = this.#works.values();
    if (completed) for (const title of [...this.#works.keys()]) this.#finish(title, this.#previous);
    else if (first) this.#showStopped(first);
    this.#works.clear();
  }

  #update(event: ProgressEvent, at: number): void {
    const work = this.#workOf(event);
    work.last = event;
    if (event.total === 0 && event.done === 0) return;
    const before = work.phases.get(event.phase);
    const open = before && event.done >= before.event.done ? before : undefined;
    if (before && !open) this.#endPhase(work, before);
    const { began = Math.max(this.#previous, work.began), first = event, firstAt = at } = open ?? {};
    const phase = { event, began, first, firstAt, at };
    work.phases.set(event.phase, phase);
    if (work.isNamed && isDone(event)) this.#endPhase(work, phase);
  }

  /** The work that an event belongs to. What another step does ends when a step begins. */
  #workOf(event: ProgressEvent): Work {
    const title = titleOf(event);
    const open = this.#works.get(title);
    const begun = open?.phases.get(event.phase);
    // A phase that has begun again is new work.
    if (open && (open.isNamed || !begun || event.done >= begun.event.done)) return open;
    if (open) this.#finish(title, this.#previous);
    for (const [other, { last }] of [...this.#works]) {
      if (last.step?.index !== event.step?.index || last.step?.name !== event.step?.name) {
        this.#finish(other, this.#previous);
      }
    }
    const work = new Work(this.#previous, event);
    this.#works.set(title, work);
    return work;
  }

  /** Ends a phase within a step that has a name. */
  #endPhase(work: Work, { event, began, at }: OpenPhase): void {
    work.phases.delete(event.phase);
    if (!this.terminal.verbose || at - began <= PATIENCE_MS) return;
    const { step: _, ...alone } = event;
    this.terminal.clearLive();
    this.terminal.note([`  ${formatFinished(alone, (at - began) / 1000)}`]);
  }

  /** Prints the one line of work that has ended, if it took long enough to be worth it. */
  #finish(title: string, at: number): void {
    const work = this.#works.get(title);
    if (!work) return;
    this.#works.delete(title);
    this.terminal.clearLive();
    if (at - work.began <= PATIENCE_MS) return;
    const complete = work.isNamed || work.last.total === 0 || isDone(work.last);
    const tick = complete && this.terminal.isUnicode ? [styled('green', '✓'), ' '] : [];
    this.terminal.note([...tick, formatFinished(work.last, (at - work.began) / 1000)]);
  }

  /** Of work that failed, the outermost line says enough. */
  #showStopped(work: Work): void {
    const elapsed = (this.clock.now() - work.began) / 1000;
    if (1000 * elapsed <= PATIENCE_MS) return;
    this.terminal.note([formatStopped({ event: work.outermost?.event ?? work.last, elapsed })]);
  }

  /** The work whose line is shown. */
  get #current(): Work | undefined {
    return [...this.#works.values()].at(-1);
  }

  #isDue(wait: number): boolean {
    const work = this.#current;
    if (!work || this.terminal.quiet) return false;
    const now = this.clock.now();
    const began = work.isNamed ? this.#began : work.began;
    return now - began >= PATIENCE_MS && now - Math.max(this.#shownAt, work.began) >= wait;
  }

  #tick(): void {
    if (this.#isDue(this.terminal.isLive ? TICK_MS - LIVE_EVERY_MS : PLAIN_EVERY_MS)) this.#show();
  }

  /** The line as it is now. */
  #show(): void {
    const work = this.#current!;
    const now = this.clock.now();
    this.#shownAt = now;
    const phase = work.outermost;
    const growth = phase && leftByGrowth(phase);
    const expected = work.isNamed
      ? this.#forecast
      : growth === undefined
        ? undefined
        : { left: growth, at: phase!.at };
    const state = {
      event: phase?.event ?? work.last,
      elapsed: (now - (work.isNamed ? this.#began : work.began)) / 1000,
      left: expected && leftAfter(expected.left, now - expected.at) / 1000,
    };
    const { terminal, memory } = this;
    if (!terminal.isLive) {
      terminal.note([formatProgress(state, { memory })]);
      return;
    }
    const columns = (terminal.columns('stderr') ?? 80) - 1;
    terminal.live(formatProgress(state, { columns, memory, unicode: terminal.isUnicode }));
  }
}

/**
 * Shows on stderr all work that takes over two seconds: on a terminal in a line that rewrites itself, also between events,
 * elsewhere in a line every half minute, and in one line when it ends. A step with a name is one line, whatever phases it
 * has; --verbose prints these too. Throws the signal's reason once it is aborted, so an interrupt ends the work at its next
 * event.
 */
export function progressReport(
  terminal: Terminal,
  signal?: AbortSignal,
  clock: ProgressClock = systemClock,
): ProgressReport {
  const lines = new ProgressLines(terminal, clock);
  let last: ProgressEvent | undefined;
  let step = { index: 0, of: 0 };
  signal?.addEventListener('abort', () => lines.end(false), { once: true });
  const report = (event: ProgressEvent) => {
    signal?.throwIfAborted();
    const inStep = event.step !== undefined || step.of <= 1 || step.index < 1 || step.index > step.of;
    last = inStep ? event : { ...event, step };
    lines.add(last);
  };
  return Object.assign(report, {
    steps: (of: number) => {
      step = { index: 0, of };
    },
    nextStep: () => {
      step = { ...step, index: step.index + 1 };
    },
    watch: (use: MemoryUse | undefined) => {
      lines.memory = use;
    },
    place: () => {
      if (!last) return undefined;
      const title = `'${titleOf(last)}'`;
      if (!lines.isOpen(last)) return `after ${title}`;
      return last.total > 0 && last.step?.name === undefined
        ? `during ${title} at ${Math.floor((100 * last.done) / last.total)} %`
        : `during ${title}`;
    },
    end: (completed: boolean) => lines.end(completed),
  });
}
