import { formatBytes, formatSeconds } from '../../engine/format.js';
import type { ProgressEvent } from '../../engine/progress.js';
import { shownName } from '../../replaceme/report/text/shownText.js';
import { padEnd, padStart, textWidth } from '../../replaceme/report/text/textWidth.js';
import { type Style, styled, type Text } from './text.js';

const BAR_COLUMNS = 8;
/** Longer forecasts are wrong more often than not. */
const LONGEST_FORECAST = 1000 * 3600;

/** A device's memory in use, as `Device` has it. */
export interface MemoryUse {
  readonly liveBytes: number;
  /** Infinity without a limit. */
  readonly limit: number;
}

/** What a line of progress says. */
export interface ProgressState {
  /** The outermost work that is going on. */
  readonly event: ProgressEvent;
  /** Of the work that the line is about: of a whole run whose steps have names, else of the phase. */
  readonly elapsed: number;
  /** Expected seconds until it is done; undefined while nobody can tell. */
  readonly left?: number | undefined;
}

/** How a line of progress looks. */
interface ProgressLook {
  /** Columns available (default: any number). If they are too few, the least useful parts are left out. */
  readonly columns?: number;
  /** Whether to draw a bar, and a dot between the parts. */
  readonly unicode?: boolean;
  readonly memory?: MemoryUse | undefined;
}

/** 130 -> "2:10", 3725 -> "1:02:05" */
export function formatClock(seconds: number): string {
  const whole = Math.floor(seconds);
  const two = (value: number) => `${value}`.padStart(2, '0');
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** A time that is only known roughly: 3, 10, 45 seconds, 2:10, 1:15:00. */
function roughly(seconds: number): string {
  const grain = seconds < 10 ? 1 : seconds < 120 ? 5 : seconds < 1200 ? 10 : 60;
  return formatClock(Math.max(1, Math.round(seconds / grain) * grain));
}

const amount = (value: number, unit: string): string =>
  unit === 'bytes' ? formatBytes(value) : `${value} ${value === 1 ? unit.replace(/s\b/, '') : unit}`;

/** Never in exponent form. */
function rate(perSecond: number, unit: string): string {
  if (unit === 'bytes') return `${formatBytes(Math.round(perSecond))}/s`;
  const digits = perSecond >= 10 ? 0 : perSecond >= 1 ? 1 : 2;
  return `${perSecond.toFixed(digits)} ${unit}/s`;
}

/** "[2/5] select", or of a step without a name "[2/5] load" by its phase. */
export const titleOf = ({ phase, step }: ProgressEvent): string =>
  step ? `[${step.index}/${step.of}] ${step.name ?? phase}` : phase;

/** Things that a line counts one by one: "candidate 3 of 6". Tokens and bytes are shares. */
const isCounted = ({ unit, total }: ProgressEvent): boolean =>
  !['tokens', 'bytes'].includes(unit) && total <= 1000;

/** What is being done within a step that has a name: "candidate 3 of 6", "window map 41 %". */
function workInWords({ phase, done, total, unit, step }: ProgressEvent): string | undefined {
  if (total === 0) return done > 0 ? amount(done, unit) : undefined;
  const what = phase === step?.name ? '' : `${phase} `;
  const event = { phase, done, total, unit };
  if (!isCounted(event)) return `${what}${Math.floor((100 * done) / total)} %`;
  const thing = unit.replace(/s\b/, '');
  const number = `${thing} ${Math.min(total, done + 1)} of ${total}`;
  // "candidates" of "candidates" need no second word.
  return what.trim() === unit ? number : what + number;
}

function bar(share: number): string {
  const filled = Math.round(Math.min(1, share) * BAR_COLUMNS);
  return '━'.repeat(filled) + '╌'.repeat(BAR_COLUMNS - filled);
}

const formatMemory = ({ liveBytes, limit }: MemoryUse): string =>
  `GPU ${formatBytes(liveBytes)}${Number.isFinite(limit) ? ` of ${formatBytes(limit)}` : ''}`;

interface Part {
  readonly text: string;
  /** Where the line is too short for all parts, those with the lowest rank come first. */
  readonly rank: number;
  readonly style?: Style;
}

/** The parts of a phase by itself. */
function partsOfPhase(event: ProgressEvent, elapsed: number): Part[] {
  const { done, total, unit } = event;
  const perSecond = elapsed >= 1 ? done / elapsed : 0;
  const shownRate = perSecond > 0 ? [{ text: rate(perSecond, unit), rank: 5 }] : [];
  if (total === 0) return [{ text: amount(done, unit), rank: 1 }, ...shownRate];
  return [
    { text: `${Math.floor((100 * done) / total)} %`, rank: 1 },
    { text: `${unit === 'bytes' ? formatBytes(done) : done} of ${amount(total, unit)}`, rank: 6 },
    ...shownRate,
  ];
}

/**
 * "[2/5] select: candidate 3 of 6  ━━━╌╌╌╌╌╌╌ · 2:10 elapsed, about 3:40 left" for a step of a run; for a phase by itself
 * "evaluate 41 % · 2048 of 5000 tokens · 210 tokens/s · 0:10 elapsed, about 0:15 left".
 */
export function formatProgress({ event, elapsed, left }: ProgressState, look: ProgressLook = {}): Text {
  const { columns = Number.POSITIVE_INFINITY, unicode = false, memory } = look;
  const named = event.step?.name !== undefined;
  const work = named ? workInWords(event) : undefined;
  const known = left !== undefined && left < LONGEST_FORECAST ? left : undefined;
  const share = named
    ? known === undefined
      ? undefined
      : elapsed / (elapsed + known)
    : event.total > 0
      ? event.done / event.total
      : undefined;
  const parts: Part[] = [
    { text: titleOf(event) + (work ? `: ${work}` : ''), rank: 0, style: 'bold' },
    ...(unicode && share !== undefined ? [{ text: bar(share), rank: 4, style: 'cyan' as const }] : []),
    ...(named ? [] : partsOfPhase(event, elapsed)),
    ...(event.detail ? [{ text: shownName(event.detail), rank: 3 }] : []),
    ...(named || elapsed >= 1
      ? [
          {
            text: `${formatClock(elapsed)} elapsed${known === undefined ? '' : `, about ${roughly(known)} left`}`,
            rank: 2,
          },
        ]
      : []),
    ...(memory ? [{ text: formatMemory(memory), rank: 7, style: 'dim' as const }] : []),
  ];
  const between = unicode ? ' · ' : ', ';
  // Whatever fits, the most useful parts first.
  let room = columns + textWidth(between);
  const kept = new Set<Part>();
  for (const part of [...parts].sort((a, b) => a.rank - b.rank)) {
    const needed = textWidth(part.text) + textWidth(between);
    if (kept.size > 0 && needed > room) continue;
    kept.add(part);
    room -= needed;
  }
  return parts
    .filter(part => kept.has(part))
    .map(({ style, text }, i) => [i > 0 ? between : '', style ? styled(style, text) : text]);
}

/** The line of a phase that has ended; in columns, since such lines follow one another. */
export function formatFinished(event: ProgressEvent, seconds: number): string {
  const { done, unit, step } = event;
  const name = padEnd(titleOf(event), step ? 22 : 16);
  const took = padStart(formatSeconds(seconds), 12);
  if (step?.name !== undefined) return `${name}${took}`;
  const [number = '', ...words] = amount(done, unit).split(' ');
  const counted = `${padStart(number, 8)} ${padEnd(words.join(' '), 16)}`;
  // Candidates per second say nothing once they are done.
  const hasRate = done > 0 && seconds > 0 && ['tokens', 'bytes'].includes(unit);
  return `${name}${counted}${took}${hasRate ? `  ${rate(done / seconds, unit)}` : ''}`;
}

/** The line of work that has been broken off. */
export const formatStopped = ({ event, elapsed }: ProgressState): string => {
  const work = event.step?.name === undefined ? undefined : workInWords(event);
  return `${titleOf(event)}${work ? `: ${work}` : ''}, stopped after ${formatSeconds(elapsed)}`;
};
