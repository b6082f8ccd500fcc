import { existsSync } from 'node:fs';
import { CommanderError } from 'commander';
import { type ErrorCode, RmError } from '../../engine/errors.js';
import { entryOf } from '../../engine/form.js';
import { reasonOf } from '../../engine/reasons.js';
import { withoutCredentials } from '../../engine/withoutCredentials.js';
import { healSettings } from '../../replaceme/options/healSettings.js';
import { pruneSettings } from '../../replaceme/options/pruneSettings.js';
import type { DeclaredSetting } from '../../replaceme/options/setting.js';
import { shownName } from '../../replaceme/report/text/shownText.js';
import { wrapText } from '../../replaceme/report/text/textWidth.js';
import { longOption, withOption } from '../options/settings.js';
import { insteadOf } from './otherPrograms.js';
import type { Terminal } from './terminal.js';
import { type Style, styled, type Text } from './text.js';

/** The stable codes of the engine, and two of the command line's own. */
export type FailureCode = ErrorCode | 'USAGE' | 'UNEXPECTED';

/** A failure as people and programs read it. */
export interface Failure {
  readonly code: FailureCode;
  /** What went wrong, with which input. */
  readonly message: string;
  /** Where: the command and how far it was; undefined outside of a command. */
  readonly where?: string;
  readonly fix: string;
}

/** A failure of a command's work, which is its `cause`. */
export class FailedWork extends Error {
  /** @param where "rm-engine prune, during 'statistics' at 41 %" */
  constructor(
    readonly where: string,
    cause: unknown,
  ) {
    super('a command has failed', { cause });
  }
}

/** A command line that cannot be understood, with the command that it was for. */
export class WrongCommandLine extends CommanderError {
  constructor(
    readonly where: string,
    { exitCode, code, message }: CommanderError,
  ) {
    super(exitCode, code, message);
  }
}

/** Names that the library's messages use besides those of the tables. */
const otherOptions: Readonly<Record<string, string>> = {
  'heal.gradient.train': '--heal',
  longest: '--layers',
  out: '--out',
  download: '--download',
  allowSoftware: '--allow-software',
  tasks: '--tasks',
  fewshot: '--fewshot',
  fewshotRows: '--fewshot-rows',
};

/** The option that a setting's library name stands for; within an object also by the name's last part. */
function optionNamed(name: string, settings: readonly DeclaredSetting[]): string | undefined {
  const options = withOption(settings);
  const setting =
    options.find(declared => declared.name === name) ?? options.find(({ path }) => path.at(-1) === name);
  return setting ? longOption(setting) : entryOf(otherOptions, name);
}

/**
 * A text of the library for users of the command line: settings that it names in backticks become options, `checkpoint: false`
 * for example --no-checkpoint, `ratio: 0.25` --ratio 0.25.
 *
 * @param where the command: "rm-engine heal", perhaps with words after it.
 */
export function onCommandLine(text: string, where = ''): string {
  const settings = /^rm-engine heal\b/.test(where) ? healSettings : pruneSettings;
  return text.replace(/`([\w.]+)(?:: ([^`]+))?`/g, (whole, name: string, value?: string) => {
    if (name === 'heal.closedForm') return `--heal ${!value || value === 'true' ? 'closed-form' : value}`;
    const option = optionNamed(name, settings);
    if (option === undefined) return whole;
    return value === undefined || ['true', 'false'].includes(value) ? option : `${option} ${value}`;
  });
}

/** Longer messages quote a file at length. */
const MOST_CHARACTERS = 4000;

/** On one line, without secrets, and no longer than somebody reads. */
function oneLine(text: string): string {
  const lines = text.split('\n').map(line => line.trim());
  const line = withoutCredentials(lines.filter(Boolean).join(' '));
  const more = line.length - MOST_CHARACTERS;
  return more > 0 ? `${line.slice(0, MOST_CHARACTERS)}... (${more} more characters)` : line;
}

/** What the underlying failure adds to the message. */
function reasonBelow({ message, cause }: RmError): string | undefined {
  if (!(cause instanceof Error)) return undefined;
  const reason = reasonOf(cause);
  return message.includes(reason) || message.includes(cause.message) ? undefined : reason;
}

/** Describes whatever was thrown. */
export function describeFailure(error: unknown): Failure {
  if (error instanceof FailedWork) {
    const { where } = error;
    const { message, fix, ...failure } = describeFailure(error.cause);
    return { ...failure, message: onCommandLine(message, where), where, fix: onCommandLine(fix, where) };
  }
  if (error instanceof CommanderError) return describeUsage(error);
  if (error instanceof RmError) {
    const deeper = reasonBelow(error);
    return {
      code: error.code,
      message: oneLine(deeper ? `${error.message}: ${deeper}` : error.message),
      fix: oneLine(error.fix),
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof RangeError && /allocation failed/i.test(message)) {
    return {
      code: 'OUT_OF_MEMORY',
      message: oneLine(`the host has no memory left: ${reasonOf(error)}`),
      fix: 'Use fewer tokens, or close other programs.',
    };
  }
  return {
    code: 'UNEXPECTED',
    message: oneLine(`a failure that rm-engine does not expect: ${reasonOf(error)}`),
    fix:
      'This is most likely a bug in rm-engine: run again with --verbose and report what it prints, ' +
      'together with: rm-engine doctor --json',
  };
}

/** commander says "error: unknown option '--x'", and may add "(Did you mean --y?)" in a line of its own. */
function describeUsage(error: CommanderError): Failure {
  const [, problem, meant] = /^(?:error: )?(.*?)(?:\s*\((Did you mean .*\?)\))?$/s.exec(
    error.message.trim(),
  )!;
  const where = error instanceof WrongCommandLine ? error.where : 'rm-engine';
  const instead = insteadOf(/^unknown option '(.*)'$/s.exec(problem!)?.[1] ?? '');
  const hint = instead ?? (meant && oneLine(meant));
  return {
    code: 'USAGE',
    message: oneLine(problem!),
    where,
    fix: `${hint ? `${hint} ` : ''}See: ${where} --help`,
  };
}

/**
 * The input that a message begins with, where it is a file or folder with perhaps a line number ("a.jsonl:3: is no
 * JSON"), and the rest of the message.
 */
function splitPlace(message: string): { input?: string; what: string } {
  for (let at = message.indexOf(': '); at > 0; at = message.indexOf(': ', at + 1)) {
    const input = message.slice(0, at);
    if (existsSync(input.replace(/:\d+$/, ''))) return { input, what: message.slice(at + 2) };
  }
  return { what: message };
}

/** Three lines: what (code), where, what to do. On a terminal they are broken at its width. */
export function formatFailure(failure: Failure, terminal: Terminal): Text {
  const { input, what } = splitPlace(failure.message);
  const where = [input, failure.where].filter(Boolean).join(', in ');
  const lines: [label: string, style: Style, text: string][] = [
    ['error: ', 'red', `${what} (${failure.code})`],
    ['  where: ', 'bold', where || 'rm-engine'],
    ['  fix: ', 'bold', failure.fix],
  ];
  const columns = terminal.columns('stderr') ?? Number.POSITIVE_INFINITY;
  return lines.map(([label, style, text], i) => {
    const wrapped = wrapText(shownName(text), columns - label.length).join(`\n${' '.repeat(label.length)}`);
    const [indent] = /^ */.exec(label)!;
    return [i > 0 ? '\n' : '', indent, styled(style, label.trim()), ` ${wrapped}`];
  });
}

/** The stacks of an error and of what caused it. */
function stacks(error: unknown): string {
  const parts: string[] = [];
  for (let at = error; at instanceof Error && parts.length < 5; at = at.cause)
    parts.push(at.stack ?? at.message);
  return withoutCredentials(parts.join('\ncaused by '));
}

/**
 * Tells what went wrong, on stderr and with `json` also as {"error": ...} on stdout.
 *
 * @returns the exit code: 2 for a wrong command line, whoever notices, 0 for help and version, else 1.
 */
export function reportFailure(error: unknown, terminal: Terminal, json: boolean): number {
  const usage = error instanceof CommanderError;
  if (usage && error.exitCode === 0) return 0;
  const failure = describeFailure(error);
  // Help that stands for an error has been printed by commander.
  if (!usage || error.code !== 'commander.help') terminal.error(formatFailure(failure, terminal));
  if (!usage && (terminal.verbose || process.env.RM_ENGINE_DEBUG)) {
    terminal.error(stacks(error instanceof FailedWork ? error.cause : error));
  }
  if (json) {
    const { code, message, where, fix } = failure;
    terminal.json({ error: { code, message, ...(where !== undefined && { where }), fix } });
  }
  return usage || failure.code === 'INVALID_ARGUMENT' ? 2 : 1;
}
