import { formatBytes, formatSeconds } from '../../engine/format.js';
import type { Progress, ProgressEvent } from '../../engine/progress.js';
import { padEnd, padStart, textWidth } from '../../replaceme/report/text/textWidth.js';
import type { Style, Terminal } from './terminal.js';

/** Work shorter than this passes without a word. */
const PATIENCE_MS = 2000;
const LIVE_EVERY_MS = 100;
const PLAIN_EVERY_MS = 10_000;
const BAR_COLUMNS = 20;

/** What is known of a device's memory: that of `Device`. */
export interface MemoryUse {
  readonly liveBytes: number;
  /** Infinity where there is none. */
  readonly limit: number;
}

const amount = (value: number, unit: string): string =>
  unit === 'bytes' ? formatBytes(value) : `${value} ${unit}`;

function rate(perSecond: number, unit: string): string {
  if (unit === 'bytes') return `${formatBytes(Math.round(perSecond))}/s`;
  return `${perSecond >= 100 ? Math.round(perSecond) : perSecond.toPrecision(2)} ${unit}/s`;
}

const label = ({ phase, step }: ProgressEvent): string =>
  step ? `[${step.index}/${step.of}] ${phase}` : phase;

const formatMemory = ({ liveBytes, limit }: MemoryUse): string =>
  `GPU ${formatBytes(liveBytes)}${Number.isFinite(limit) ? ` of ${formatBytes(limit)}` : ''}`;

function bar(share: number): string {
  const filled = Math.round(Math.min(1, share) * BAR_COLUMNS);
  return '━'.repeat(filled) + '╌'.repeat(BAR_COLUMNS - filled);
}

export interface ProgressLook {
  /** Columns there are (default: any number); what is least worth knowing gives way first. */
  readonly columns?: number;
  /** Whether there is a bar. */
  readonly bar?: boolean;
  readonly memory?: MemoryUse | undefined;
  style?(style: Style, text: string): string;
}

/** "[2/5] evaluate  41 %  2048 of 5000 tokens  210 tokens/s  14 s left  GPU 1.20 GiB" */
export function formatProgress(event: ProgressEvent, seconds: number, look: ProgressLook = {}): string {
  const { done, total, unit } = event;
  const { columns = Number.POSITIVE_INFINITY, style = (_, text) => text } = look;
  const perSecond = seconds > 0 ? done / seconds : 0;
  /** In the order of the line; those of the highest `rank` go first. */
  const parts: { text: string; rank: number; style?: Style }[] = [
    { text: label(event), rank: 0, style: 'bold' },
  ];
  if (total > 0) {
    if (look.bar) parts.push({ text: bar(done / total), rank: 6, style: 'cyan' });
    parts.push({ text: `${Math.floor((100 * done) / total)} %`, rank: 1 });
    const of = unit === 'bytes' ? formatBytes(done) : `${done}`;
    parts.push({ text: `${of} of ${amount(total, unit)}`, rank: 4 });
  } else {
    parts.push({ text: amount(done, unit), rank: 1 });
  }
  if (perSecond > 0) {
    parts.push({ text: rate(perSecond, unit), rank: 3 });
    if (total > done) parts.push({ text: `${formatSeconds((total - done) / perSecond)} left`, rank: 2 });
  }
  if (event.detail) parts.push({ text: event.detail, rank: 2 });
  if (look.memory) parts.push({ text: formatMemory(look.memory), rank: 5, style: 'dim' });
  const columnsOf = () => parts.reduce((sum, { text }) => sum + textWidth(text) + 2, -2);
  while (parts.length > 1 && columnsOf() > columns) {
    const last = Math.max(...parts.map(({ rank }) => rank));
    parts.splice(
      parts.findIndex(({ rank }) => rank === last),
      1,
    );
  }
  return parts.map(part => (part.style ? style(part.style, part.text) : part.text)).join('  ');
}

/** What is said of a phase that is over; in columns, since several follow one another. */
export function formatFinished(event: ProgressEvent, seconds: number): string {
  const { done, unit } = event;
  const name = padEnd(label(event), event.step ? 22 : 16);
  const [number = '', ...words] = amount(done, unit).split(' ');
  const counted = `${padStart(number, 8)} ${padEnd(words.join(' '), 16)}`;
  const took = padStart(formatSeconds(seconds), 12);
  // Candidates per second are of no use once they are done.
  const telling = done > 0 && seconds > 0 && ['tokens', 'bytes'].includes(unit);
  return `${name}${counted}${took}${telling ? `  ${rate(done / seconds, unit)}` : ''}`;
}

/** Shows progress when called; what it knows besides is for failures and the device. */
export interface ProgressReport extends Progress {
  /** The work that follows has so many parts; events that name no step of their own are of the part in progress. */
  steps(of: number): void;
  /** The next of these parts begins. */
  nextStep(): void;
  /** Shows this memory's use from now on. */
  watch(memory: MemoryUse | undefined): void;
  /** Where the work is: "during 'statistics' at 41 %", "after 'load'"; undefined before its first event. */
  place(): string | undefined;
  /** Ends the phase in progress. */
  end(): void;
}

/**
 * Shows progress on stderr for every phase that takes over two seconds: on a terminal a line that rewrites itself,
 * elsewhere a line every ten seconds; and one line when the phase is over. Throws the signal's reason once it is
 * aborted, so that an interrupt ends the work at its next step.
 */
export function progressReport(
  terminal: Terminal,
  signal?: AbortSignal,
  now: () => number = () => performance.now(),
): ProgressReport {
  /** Phases that have begun and are not over: another may come in between, such as a walk for one of many candidates. */
  const open = new Map<string, { event: ProgressEvent; began: number; at: number }>();
  let last: ProgressEvent | undefined;
  let shownAt = now();
  /** Of the last event: a phase's first event comes when its first step is done. */
  let previous = now();
  let memory: MemoryUse | undefined;
  let step = { index: 0, of: 0 };

  const close = (key: string) => {
    const { event, began, at } = open.get(key)!;
    open.delete(key);
    if (at - began <= PATIENCE_MS) return;
    const tick = terminal.isUnicode ? `${terminal.style('stderr', 'green', '✓')} ` : '';
    terminal.note(tick + formatFinished(event, (at - began) / 1000));
  };
  const closeAll = () => {
    terminal.clearLive();
    for (const key of [...open.keys()]) close(key);
  };

  const report = (given: ProgressEvent) => {
    signal?.throwIfAborted();
    const counted = step.of > 1 && step.index >= 1 && step.index <= step.of;
    const event = counted && !given.step ? { ...given, step } : given;
    const at = now();
    const key = label(event);
    if (last?.step?.index !== event.step?.index) closeAll();
    const before = open.get(key);
    if (before && event.done < before.event.done) close(key);
    const began = open.get(key)?.began ?? previous;
    if (label(last ?? event) !== key) shownAt = Math.max(shownAt, began);
    open.set(key, { event, began, at });
    previous = at;
    last = event;
    if (event.total > 0 && event.done >= event.total) {
      terminal.clearLive();
      close(key);
      return;
    }
    const due = at - shownAt >= (terminal.isLive ? LIVE_EVERY_MS : PLAIN_EVERY_MS);
    if (terminal.quiet || at - began < PATIENCE_MS || !due) return;
    shownAt = at;
    const seconds = (at - began) / 1000;
    if (terminal.isLive) {
      const columns = (terminal.columns('stderr') ?? 80) - 1;
      const style = (name: Style, text: string) => terminal.style('stderr', name, text);
      terminal.live(formatProgress(event, seconds, { columns, memory, style, bar: terminal.isUnicode }));
    } else {
      terminal.note(formatProgress(event, seconds, { memory }));
    }
  };
  return Object.assign(report, {
    steps: (of: number) => {
      step = { index: 0, of };
    },
    nextStep: () => {
      step = { ...step, index: step.index + 1 };
    },
    watch: (use: MemoryUse | undefined) => {
      memory = use;
    },
    place: () => {
      if (!last) return undefined;
      if (!open.has(label(last))) return `after '${label(last)}'`;
      const share = last.total > 0 ? ` at ${Math.floor((100 * last.done) / last.total)} %` : '';
      return `during '${label(last)}'${share}`;
    },
    end: closeAll,
  });
}
