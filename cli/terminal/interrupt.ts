import { Worker } from 'node:worker_threads';
import { removeUnfinishedOutput, unfinishedPaths } from '../../model/files/unfinishedOutput.js';
import type { Deadline } from './watchdog.js';

/** How long the work may go on after an interrupt. Then the process ends without it, and needs some time for that too. */
const GRACE_MS = 1500;
/** When a thread ends the process whose main thread has not come to it. */
const DEADLINE_MS = 1900;
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

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
 * and ends by itself; two seconds later, or on a second signal, the process has ended in any case. Unfinished output is
 * removed.
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
  for (const name of signals) {
    process.on(name, () => {
      stop(INTERRUPTED, 'interrupted');
      // The next one ends the process, however busy it is.
      for (const other of signals) process.removeAllListeners(other);
      watch(name);
    });
  }
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (exitCode !== undefined) return;
    if (error.code === 'EPIPE') {
      stop(0, 'nobody reads stdout any more');
      return;
    }
    stop(1, 'stdout cannot be written');
    void reportFailedStdout(error);
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

/** Ends the process soon, even if the main thread computes without a break. */
function watch(signal: NodeJS.Signals): void {
  const deadline: Deadline = { time: Date.now() + DEADLINE_MS, signal, paths: unfinishedPaths() };
  const worker = new Worker(new URL('./watchdog.js', import.meta.url), { workerData: deadline });
  // Without it the grace period ends the process.
  worker.on('error', () => {});
  worker.unref();
}

/** Loads what it needs only now: signals must be handled before anything large is loaded. */
async function reportFailedStdout(error: unknown): Promise<void> {
  const [{ outputError }, { describeFailure, formatFailure }, { Terminal }] = await Promise.all([
    import('../../model/files/outputError.js'),
    import('./failure.js'),
    import('./terminal.js'),
  ]);
  const terminal = new Terminal();
  terminal.error(formatFailure(describeFailure(outputError(error, 'stdout')), terminal));
}
