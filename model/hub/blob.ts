import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { RmError } from '../../engine/index.js';
import { outputError } from '../files/outputFolder.js';

/** A file on a hub. */
interface RemoteFile {
  /** Name for messages. */
  readonly name: string;
  readonly size: number;
  /** SHA-256 of the content, if known. */
  readonly sha256: string | undefined;
  /** Reads the bytes from `start` on. */
  read(start: number): Promise<ReadableStream<Uint8Array>>;
}

/** Consecutive attempts without new bytes before the download gives up. */
const MOST_FUTILE_ATTEMPTS = 3;

async function hashFirst(hash: Hash, path: string, bytes: number): Promise<void> {
  if (bytes === 0) return;
  for await (const piece of createReadStream(path, { end: bytes - 1 })) hash.update(piece as Buffer);
}

const failed = (file: RemoteFile, problem: string, cause?: unknown): RmError =>
  new RmError(
    'DOWNLOAD_FAILED',
    `${file.name}: ${problem}`,
    'Run the same command again: it resumes where it stopped.',
    { cause },
  );

/**
 * Downloads one file to `path` through `path`.incomplete, which a later call resumes. Checks the SHA-256 before renaming.
 *
 * @param onBytes called with the number of new bytes; first with those of an earlier call.
 * @throws RmError DOWNLOAD_FAILED, OUTPUT_FAILED; the reason of `signal` once it is aborted.
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
    // Explicit positions: two downloads of the same file then write the same bytes.
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
          if (tooLong) throw failed(file, `the hub sends more than the ${file.size} bytes it announced`);
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
    throw failed(file, "the downloaded file's SHA-256 differs from the hub's, so it was removed");
  }
  await rename(partial, path).catch(async error => {
    // Another download of the same file may have finished first.
    if ((await stat(path).catch(() => undefined))?.size !== file.size) throw outputError(error, path);
  });
}
