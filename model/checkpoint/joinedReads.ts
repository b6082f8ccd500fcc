import type { ReadInto } from '../../engine/index.js';

/** Reads runs of `runBytes` bytes that lie apart as if they followed each other; `read` reads within one run. */
export const joinedRuns =
  (runBytes: number, read: (target: Uint8Array, run: number, within: number) => Promise<void>): ReadInto =>
  async (target, at) => {
    for (let done = 0; done < target.byteLength; ) {
      const within = (at + done) % runBytes;
      const length = Math.min(runBytes - within, target.byteLength - done);
      await read(target.subarray(done, done + length), Math.floor((at + done) / runBytes), within);
      done += length;
    }
  };
