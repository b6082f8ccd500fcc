import { formatBytes, formatSeconds } from '../../engine/format.js';
import type { Progress, ProgressEvent } from '../../engine/progress.js';
import { shownName } from '../../replaceme/report/text/shownText.js';
import { padEnd, padStart, textWidth } from '../../replaceme/report/text/textWidth.js';
import type { Terminal } from './terminal.js';
import { type Style, styled, type Text } from './text.js';

/** Shorter phases are not shown. */
const PATIENCE_MS = 2000;
const LIVE_EVERY_MS = 100;
const PLAIN_EVERY_MS = 10_000;
const BAR_COLUMNS = 20;

/** A device's memory in use, as `Device` has it. */
interface MemoryUse {
  readonly liveBytes: number;
  /** Infinity without a limit. */
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

/** How a line of progress looks. */
interface ProgressLook {
  /** Columns available (default: any number). If they are too few, the least useful parts are dropped first. */
  readonly columns?: number;
  /** Whether to draw a bar. */
  readonly bar?: boolean;
  readonly memory?: MemoryUse | undefined;
}

/** "[2/5] evaluate  41 %  2048 of 5000 tokens  210 tokens/s  14 s left  GPU 1.20 GiB" */
export function formatProgress(event: ProgressEvent, seconds: number, look: ProgressLook = {}): Text {
  const { done, total, unit } = event;
  const { columns = Number.POSITIVE_INFINITY } = look;
  const perSecond = seconds > 0 ? done / seconds : 0;
  /** In the order of the line; the parts with the highest `rank` are dropped first. */
  const parts: { text: string; rank: number; style?: Style }[] = [
    { text: label(event), rank: 0, style: 'bold' },
  ];
  if (total > 0) {
    if (look.bar) parts.push({ text: bar(done / total), rank: 6, style: 'cyan' });
    parts.push({ text: `${Math.floor((100 * done) / total)} %`, rank: 1 });
    const doneText = unit === 'bytes' ? formatBytes(done) : `${done}`;
    parts.push({ text: `${doneText} of ${amount(total, unit)}`, rank: 4 });
  } else {
    parts.push({ text: amount(done, unit), rank: 1 });
  }
  if (perSecond > 0) {
    parts.push({ text: rate(perSecond, unit), rank: 3 });
    if (total > done) parts.push({ text: `${formatSeconds((total - done) / perSecond)} left`, rank: 2 });
  }
  if (event.detail) parts.push({ text: shownName(event.detail), rank: 2 });
  if (look.memory) parts.push({ text: formatMemory(look.memory), rank: 5, style: 'dim' });
  const usedColumns = () => parts.reduce((sum, { text }) => sum + textWidth(text) + 2, -2);
  while (parts.length > 1 && usedColumns() > columns) {
    const highest = Math.max(...parts.map(({ rank }) => rank));
    parts.splice(
      parts.findIndex(({ rank }) => rank === highest),
      1,
    );
  }
  return parts.map(({ style, text }, i) => [i > 0 ? '  ' : '', style ? styled(style, text) : text]);
}

/** The line of a phase that has ended; in columns, since such lines follow one another. */
function formatFinished(event: ProgressEvent, seconds: number): string {
  const { done, unit } = event;
  const name = padEnd(label(event), event.step ? 22 : 16);
  const [number = '', ...words] = amount(done, unit).split(' ');
  const counted = `${padStart(number, 8)} ${padEnd(words.join(' '), 16)}`;
  const took = padStart(formatSeconds(seconds), 12);
  // Candidates per second say nothing once they are done.
  const hasRate = done > 0 && seconds > 0 && ['tokens', 'bytes'].includes(unit);
  return `${name}${counted}${took}${hasRate ? `  ${rate(done / seconds, unit)}` : ''}`;
}

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
  /** Ends all open phases. */
  end(): void;
}

/** A phase that has begun and not ended. Another may run within it, such as a forward pass for one of many candidates. */
interface OpenPhase {
  readonly event: ProgressEvent;
  readonly began: number;
  /** Time of its last event. */
  readonly at: number;
}

/** Prints a phase as it is now: the live line of a terminal, elsewhere a line of its own. */
function showPhase(terminal: Terminal, { event, began, at }: OpenPhase, memory: MemoryUse | undefined): void {
  const seconds = (at - began) / 1000;
  if (!terminal.isLive) {
    terminal.note(formatProgress(event, seconds, { memory }));
    return;
  }
  const columns = (terminal.columns('stderr') ?? 80) - 1;
  terminal.live(formatProgress(event, seconds, { columns, memory, bar: terminal.isUnicode }));
}

/** Prints the one line of a phase that has ended, if it took long enough to be worth it. */
function showFinished(terminal: Terminal, { event, began, at }: OpenPhase): void {
  if (at - began <= PATIENCE_MS) return;
  const tick = terminal.isUnicode ? [styled('green', '✓'), ' '] : [];
  terminal.note([...tick, formatFinished(event, (at - began) / 1000)]);
}

/**
 * Shows on stderr every phase that takes over two seconds: on a terminal in a line that rewrites itself, elsewhere in a
 * line every ten seconds, and in one line when the phase ends. Throws the signal's reason once it is aborted, so an
 * interrupt ends the work at its next event.
 */
export function progressReport(
  terminal: Terminal,
  signal?: AbortSignal,
  now: () => number = () => performance.now(),
): ProgressReport {
  const open = new Map<string, OpenPhase>();
  let last: ProgressEvent | undefined;
  let shownAt = now();
  /** Time of the last event. A new phase began then: its first event comes when its first part is done. */
  let previous = now();
  let memory: MemoryUse | undefined;
  let step = { index: 0, of: 0 };

  const close = (key: string) => {
    showFinished(terminal, open.get(key)!);
    open.delete(key);
  };
  const closeAll = () => {
    terminal.clearLive();
    for (const key of [...open.keys()]) close(key);
  };
  const inStep = (event: ProgressEvent): ProgressEvent =>
    event.step || step.of <= 1 || step.index < 1 || step.index > step.of ? event : { ...event, step };

  const report = (reported: ProgressEvent) => {
    signal?.throwIfAborted();
    const event = inStep(reported);
    const at = now();
    const key = label(event);
    if (last?.step?.index !== event.step?.index) closeAll();
    const before = open.get(key);
    if (before && event.done < before.event.done) close(key);
    const phase = { event, began: open.get(key)?.began ?? previous, at };
    if (label(last ?? event) !== key) shownAt = Math.max(shownAt, phase.began);
    open.set(key, phase);
    previous = at;
    last = event;
    if (event.total > 0 && event.done >= event.total) {
      terminal.clearLive();
      close(key);
      return;
    }
    const due = at - shownAt >= (terminal.isLive ? LIVE_EVERY_MS : PLAIN_EVERY_MS);
    if (terminal.quiet || at - phase.began < PATIENCE_MS || !due) return;
    shownAt = at;
    showPhase(terminal, phase, memory);
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
