import { Command, CommanderError } from 'commander';
import type { DeviceOptions } from '../../engine/deviceOptions.js';
import { formatSeconds } from '../../engine/format.js';
import { argumentsWithPaths, optionsWithPaths } from '../options/paths.js';
import { FailedWork } from './failure.js';
import { type ProgressReport, progressReport } from './progressReport.js';
import { Terminal } from './terminal.js';
import { version } from './version.js';

/** Options that every command takes. */
interface GlobalOptions {
  adapter?: string;
  memoryLimit?: number;
  quiet?: boolean;
  verbose?: boolean;
}

/** One run of a command: its options, and the means to speak, to report progress and to stop. */
export interface Run<Options> {
  readonly options: Options & GlobalOptions;
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
  readonly progress: ProgressReport;
  /** From --adapter and --memory-limit. */
  readonly deviceOptions: DeviceOptions;
  /** The exit code once the work is done; 0 unless the work sets it. */
  exitCode: number;
  /** Reports a wrong command line and ends the command (exit code 2). */
  usage(reason: string): never;
}

/** The help of a command. */
export interface CommandText {
  readonly summary: string;
  /** Paragraphs after the summary. Their lines are joined and wrapped again; indented lines stay. */
  readonly details?: string;
  /** [syntax, description] in commander's words: ['<model>', '...'], ['[files...]', '...']. */
  readonly args?: readonly (readonly [string, string])[];
  readonly examples: readonly string[];
}

/** A command with its help: summary, details, examples. `path` is "inspect", or "bench kernels" for a subcommand. */
export function newCommand(path: string, { summary, details, args = [], examples }: CommandText): Command {
  const command = new Command(path.split(' ').at(-1)).summary(summary);
  const wrapped = details?.replace(/(?<!\n)\n(?![\n ])/g, ' ');
  command.description(wrapped ? `${summary}\n\n${wrapped}` : summary);
  for (const [syntax, description] of args) command.argument(syntax, description);
  command.addHelpText('after', `\nExamples:\n${examples.map(example => `  $ ${example}\n`).join('')}`);
  return command;
}

/** The full name of a command: "rm-engine bench kernels". */
export const fullName = (command: Command): string =>
  command.parent ? `${fullName(command.parent)} ${command.name()}` : command.name();

/**
 * Gives a command its work. Ctrl-C aborts `signal`.
 *
 * @returns the command, whose action throws FailedWork if the work fails.
 */
export function runs<Options extends object>(
  command: Command,
  signal: AbortSignal,
  work: (run: Run<Options>, ...args: readonly (string | string[] | undefined)[]) => Promise<void>,
): Command {
  return command.action(async () => {
    const options = command.optsWithGlobals<Options & GlobalOptions>();
    const terminal = new Terminal({ quiet: options.quiet, verbose: options.verbose });
    const progress = progressReport(terminal, signal);
    const run: { -readonly [K in keyof Run<Options>]: Run<Options>[K] } = {
      options,
      terminal,
      signal,
      progress,
      deviceOptions: { adapter: options.adapter, memoryLimit: options.memoryLimit },
      exitCode: 0,
      usage: reason => command.error(`error: ${reason}`, { exitCode: 2 }),
    };
    const started = performance.now();
    terminal.detail(`rm-engine ${version()}, Node ${process.version}, ${process.platform} ${process.arch}`);
    let done = false;
    try {
      run.options = optionsWithPaths(command, options);
      await work(run, ...(argumentsWithPaths(command) as (string | string[] | undefined)[]));
      done = true;
    } catch (error) {
      if (error instanceof CommanderError) throw error;
      throw new FailedWork([fullName(command), progress.place()].filter(Boolean).join(', '), error);
    } finally {
      progress.end(done);
      terminal.clearLive();
    }
    terminal.detail(`time: ${formatSeconds((performance.now() - started) / 1000)}`);
    process.exitCode = run.exitCode;
  });
}
