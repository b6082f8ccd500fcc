import type { ReadInto } from '../../engine/index.js';
import type { Checkpoint } from './checkpoint.js';

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

/** Reads matrices as one whose rows are theirs side by side; reads the rows of each matrix together. */
export const sideBySide =
  (checkpoint: Pick<Checkpoint, 'readRange'>, names: readonly string[], rowBytes: number): ReadInto =>
  async (target, at) => {
    const wide = names.length * rowBytes;
    const first = Math.floor(at / wide);
    const count = Math.ceil((at + target.byteLength) / wide) - first;
    for (const [n, name] of names.entries()) {
      const rows = await checkpoint.readRange(name, first * rowBytes, count * rowBytes);
      for (let r = 0; r < count; r++) {
        // The first and the last row may reach beyond the target.
        const to = (first + r) * wide + n * rowBytes - at;
        const from = r * rowBytes + Math.max(0, -to);
        const end = r * rowBytes + Math.min(rowBytes, target.byteLength - to);
        if (from < end) target.set(rows.subarray(from, end), Math.max(0, to));
      }
    }
  };
