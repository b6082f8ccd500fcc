import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { WorkerMessage } from './isolatedProcess.js';

/**
 * Answers the requests of an IsolatedProcess, in the process that it started; a request may take `bytes` of memory and
 * `seconds` of computing.
 */
export function answerRequests(
  answer: (body: unknown) => Promise<unknown>,
  limits: { readonly bytes: number; readonly seconds: number },
): void {
  const progress = new Int32Array(new SharedArrayBuffer(4));
  const isAlive = () => Atomics.add(progress, 0, 1);
  const watchdog = new Worker(new URL('./watchdog.js', import.meta.url), {
    workerData: { progress, ...limits, parent: process.ppid },
  });
  const watching = once(watchdog, 'message').then(() => watchdog.unref());
  let open = 0;
  // The watchdog counts its own computing too.
  setInterval(() => open === 0 && isAlive(), 1000).unref();
  const reply = (message: WorkerMessage) => {
    open--;
    isAlive();
    process.send!(message);
  };
  process.on('message', ({ id, body }: { id: number; body: unknown }) => {
    open++;
    isAlive();
    watching
      .then(() => answer(body))
      .then(
        result => reply({ id, result }),
        (error: Error) => reply({ id, error: error.message }),
      );
  });
}
