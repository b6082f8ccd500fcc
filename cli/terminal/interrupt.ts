import { outputError } from '../../model/files/outputFolder.js';
import { removeUnfinishedOutput } from '../../model/files/unfinishedOutput.js';
import { describeFailure, formatFailure } from './failure.js';
import { Terminal } from './terminal.js';

/** How long the work may go on after an interrupt. Then the process ends without it. */
const GRACE_MS = 2000;

/** The exit code after a signal. */
export const INTERRUPTED = 130;

/** A request from outside to end the process. */
interface Interrupt {
  /** Aborted by Ctrl-C, SIGTERM, SIGHUP or a closed stdout. */
  readonly signal: AbortSignal;
  /** Set once `signal` is aborted: 130; 0 if only the reader of stdout went away; 1 if stdout cannot be written. */
  readonly exitCode: number | undefined;
}

/**
 * Handles SIGINT, SIGTERM, SIGHUP and a failing stdout. The first of them aborts the signal, so that the work cleans up
 * and ends by itself. A second one, or two seconds, end the process at once. Unfinished output is removed in any case.
 */
export function watchInterrupts(): Interrupt {
  const controller = new AbortController();
  let exitCode: number | undefined;
  const endNow = () => {
    removeUnfinishedOutput();
    if (exitCode === INTERRUPTED) process.stderr.write('interrupted\n');
    process.exit(exitCode);
  };
  const stop = (code: number, reason: string) => {
    if (exitCode !== undefined) {
      endNow();
      return;
    }
    exitCode = code;
    process.exitCode = code;
    controller.abort(new Error(reason));
    setTimeout(endNow, GRACE_MS).unref();
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => stop(INTERRUPTED, 'interrupted'));
  }
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (exitCode !== undefined) return;
    if (error.code === 'EPIPE') {
      stop(0, 'nobody reads stdout any more');
      return;
    }
    const terminal = new Terminal();
    terminal.error(formatFailure(describeFailure(outputError(error, 'stdout')), terminal));
    stop(1, 'stdout cannot be written');
  });
  // The work is worth finishing even if nobody reads stderr.
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
  process.on('exit', removeUnfinishedOutput);
  return {
    signal: controller.signal,
    get exitCode() {
      return exitCode;
    },
  };
}
