/**
 * A thread that ends its process where the main thread can no longer be asked to: when the process takes too much memory,
 * computes too long without progress, or has lost the process that started it.
 */
import { writeSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

const { progress, bytes, seconds, parent } = workerData as {
  progress: Int32Array;
  bytes: number;
  seconds: number;
  parent: number;
};

/** What the watchdog writes to stderr before it ends the process. */
const words = { memory: 'memory limit', time: 'time limit', orphan: 'no parent' };

function end(reason: keyof typeof words): never {
  try {
    writeSync(2, words[reason]);
  } catch {
    // Nobody reads it any more.
  }
  process.kill(process.pid, 'SIGKILL');
  throw new Error(words[reason]);
}

function hasParent(): boolean {
  if (process.ppid !== parent) return false;
  try {
    return process.kill(parent, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

const computed = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

let rows = 0;
let since = computed();
setInterval(() => {
  if (process.memoryUsage.rss() > bytes) end('memory');
  const now = Atomics.load(progress, 0);
  if (now !== rows) [rows, since] = [now, computed()];
  if (computed() - since > seconds) end('time');
  if (!hasParent()) end('orphan');
}, 20);

// Loading this file needs the main thread, which must not begin to work before.
parentPort!.postMessage('watching');
