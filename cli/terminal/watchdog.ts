/**
 * A thread that ends the process at a given time, for when the main thread is too busy to do so. By then the process no longer
 * handles the signal, which therefore ends it.
 */
import { rmSync } from 'node:fs';
import { workerData } from 'node:worker_threads';

/** What the main thread tells. */
export interface Deadline {
  /** Milliseconds, as Date.now. */
  readonly time: number;
  readonly signal: NodeJS.Signals;
  /** Unfinished output to remove. */
  readonly paths: readonly string[];
}

const { time, signal, paths } = workerData as Deadline;
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Math.max(0, time - Date.now()));
for (const path of paths) {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // The others must go all the same.
  }
}
process.kill(process.pid, signal);
