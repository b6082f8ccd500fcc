import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { RmError } from '../../engine/index.js';
import { outputError } from '../files/outputFolder.js';

/** Bytes of a file on a hub. */
export interface RemoteFile {
  /** For messages. */
  readonly name: string;
  readonly size: number;
  /** Of its content, where that is known. */
  readonly sha256: string | undefined;
  /** Its bytes from `start` on. */
  read(start: number): Promise<ReadableStream<Uint8Array>>;
}

/** Attempts that bring nothing new before it is given up. */
const MOST_FUTILE_ATTEMPTS = 3;

async function hashFirst(hash: Hash, path: string, bytes: number): Promise<void> {
  if (bytes === 0) return;
  for await (const piece of createReadStream(path, { end: bytes - 1 })) hash.update(piece as Buffer);
}

const failed = (file: RemoteFile, problem: string, cause?: unknown): RmError =>
  new RmError(
    'DOWNLOAD_FAILED',
    `${file.name}: ${problem}`,
    'Run the same command again: it goes on where it was stopped.',
    { cause },
  );

/**
 * Downloads one file to `path`, by way of `path`.incomplete, which a later call takes up where it ends. The
 * SHA-256 is checked before the file gets its name.
 *
 * @param onBytes called with the bytes that have come, those that were there before first.
 * @throws RmError DOWNLOAD_FAILED, OUTPUT_FAILED; what `signal` was aborted with.
 */
export async function downloadBlob(
  file: RemoteFile,
  path: string,
  onBytes: (count: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  const partial = `${path}.incomplete`;
  const before = (await stat(partial).catch(() => undefined))?.size ?? 0;
  const resumed = before > 0 && before <= file.size;
  let position = resumed ? before : 0;
  const hash = createHash('sha256');
  const target = await open(partial, resumed ? 'r+' : 'w').catch(error =>
    Promise.reject(outputError(error, partial)),
  );
  const take = async (piece: Uint8Array) => {
    // At its own position, so that two downloads of the same file write the same.
    await target
      .write(piece, 0, piece.byteLength, position)
      .catch(error => Promise.reject(outputError(error, partial)));
    hash.update(piece);
    position += piece.byteLength;
    onBytes(piece.byteLength);
  };
  let tooLong = false;
  try {
    await hashFirst(hash, partial, position);
    if (position > 0) onBytes(position);
    for (let futile = 0; position < file.size; ) {
      const begin = position;
      let cause: unknown;
      try {
        for await (const piece of (await file.read(position)) as unknown as AsyncIterable<Uint8Array>) {
          tooLong = position + piece.byteLength > file.size;
          if (tooLong) throw failed(file, `the hub sends more than the ${file.size} bytes it had named`);
          await take(piece);
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof RmError) throw error;
        cause = error;
      }
      futile = position > begin ? 0 : futile + 1;
      if (futile >= MOST_FUTILE_ATTEMPTS) {
        throw failed(file, `the connection ends at byte ${position} of ${file.size}`, cause);
      }
    }
    await target.sync().catch(() => undefined);
  } finally {
    await target.close();
    if (tooLong) await rm(partial, { force: true });
  }
  if (file.sha256 !== undefined && hash.digest('hex') !== file.sha256) {
    await rm(partial, { force: true });
    throw failed(file, 'what has come is not what the hub has: its SHA-256 differs, so it was removed');
  }
  await rename(partial, path).catch(async error => {
    // Another download of the same file may have been faster.
    if ((await stat(path).catch(() => undefined))?.size !== file.size) throw outputError(error, path);
  });
}
