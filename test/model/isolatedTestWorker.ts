/** A worker for isolatedProcess.test.ts: does what it is told, within small limits. */
import { answerRequests } from '../../model/files/isolatedWorker.js';

const kept: Uint8Array[] = [];

const deeds: Readonly<Record<string, () => unknown>> = {
  answer: () => new Uint32Array([1, 2]),
  fail: () => {
    throw new Error('as told');
  },
  crash: () => process.abort(),
  exit: () => process.exit(3),
  loop: () => {
    for (;;);
  },
  fill: () => {
    for (;;) kept.push(new Uint8Array(1 << 24).fill(1));
  },
  pid: () => process.pid,
};

answerRequests(async deed => deeds[deed as string]!(), { bytes: 400 * 2 ** 20, seconds: 1 });
