import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, rename, rm, stat } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { RmError, reasonOf } from '../../engine/index.js';
import { outputError } from '../files/outputError.js';
import { BusyServer, type Content, RefusedRequest } from './fileContent.js';
import { openPartialFile } from './partialFile.js';

/** A file on a hub. */
export interface RemoteFile {
  /** Name for messages. */
  readonly name: string;
  readonly size: number;
  /** The known hash of its content: SHA-256 of a large file, git's hash (SHA-1 with a prefix) of a small one. */
  readonly hash: { readonly kind: 'sha256' | 'git'; readonly hex: string };
  /** Reads the bytes from `start` on. */
  read(start: number): Promise<Content>;
}

/** Attempts in a row that bring next to nothing, before the download gives up; and all attempts for one file. */
const [MOST_FUTILE, MOST_ATTEMPTS] = [5, 200];
/** An attempt that brings less counts as futile. */
const LEAST_BYTES = 2 ** 16;

/** Milliseconds before the next attempt: doubled after every futile one. Tests shorten them. */
export const pauses = { first: 1000, longest: 30_000 };

const failed = (file: RemoteFile, problem: string, cause?: unknown): RmError =>
  new RmError(
    'DOWNLOAD_FAILED',
    `${file.name}: ${problem}`,
    'Run the same command again: it resumes where it stopped.',
    { cause },
  );

function beginHash({ hash, size }: RemoteFile): Hash {
  return hash.kind === 'sha256' ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

async function hashFirst(hash: Hash, file: FileHandle, bytes: number): Promise<void> {
  const piece = Buffer.alloc(Math.min(bytes, 2 ** 20));
  for (let at = 0; at < bytes; ) {
    const { bytesRead } = await file.read(piece, 0, Math.min(piece.byteLength, bytes - at), at);
    if (bytesRead === 0) return;
    hash.update(piece.subarray(0, bytesRead));
    at += bytesRead;
  }
}

/** One download: what has come so far is in `target`. */
class Incoming {
  position = 0;
  /** Whether the hub sent more bytes than it announced, so that none are to be trusted. */
  tooLong = false;
  #hash: Hash;

  constructor(
    private readonly remote: RemoteFile,
    private readonly target: FileHandle,
    private readonly path: string,
    private readonly onBytes: (count: number) => void,
  ) {
    this.#hash = beginHash(remote);
  }

  /** Goes on after the bytes of an earlier call. */
  async resume(bytes: number): Promise<void> {
    await hashFirst(this.#hash, this.target, bytes);
    this.position = bytes;
    if (bytes > 0) this.onBytes(bytes);
  }

  /** Reads until the file is complete or the connection ends. @throws RmError for more bytes than announced. */
  async attempt(): Promise<void> {
    const { start, pieces } = await this.remote.read(this.position);
    if (start !== this.position) {
      this.onBytes(start - this.position);
      this.position = start;
      this.#hash = beginHash(this.remote);
    }
    for await (const piece of pieces) {
      this.tooLong = this.position + piece.byteLength > this.remote.size;
      if (this.tooLong) {
        throw failed(this.remote, `the hub sends more than the ${this.remote.size} bytes it announced`);
      }
      // Explicit positions: two downloads of the same file then write the same bytes.
      await this.target
        .write(piece, 0, piece.byteLength, this.position)
        .catch(error => Promise.reject(outputError(error, this.path)));
      this.#hash.update(piece);
      this.position += piece.byteLength;
      this.onBytes(piece.byteLength);
    }
  }

  get isRight(): boolean {
    return this.#hash.digest('hex') === this.remote.hash.hex;
  }
}

/** Attempts until all bytes are there, with growing pauses. */
async function receive(remote: RemoteFile, incoming: Incoming, signal?: AbortSignal): Promise<void> {
  for (let attempts = 1, futile = 0; incoming.position < remote.size; attempts++) {
    const begin = incoming.position;
    let cause: unknown;
    try {
      await incoming.attempt();
      if (incoming.position >= remote.size) return;
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof RmError || error instanceof RefusedRequest) throw error;
      // fetch hides an error of ours in its own.
      if ((error as Error).cause instanceof RmError) throw (error as Error).cause;
      cause = error;
    }
    futile = incoming.position - begin >= LEAST_BYTES ? 0 : futile + 1;
    if (futile >= MOST_FUTILE || attempts >= MOST_ATTEMPTS) {
      const why = cause === undefined ? '' : `: ${reasonOf((cause as Error).cause ?? cause)}`;
      const place = `byte ${incoming.position} of ${remote.size}`;
      throw failed(remote, `after ${attempts} attempts the connection ends at ${place}${why}`, cause);
    }
    const asked = cause instanceof BusyServer ? 1000 * cause.retryAfter : 0;
    const pause = Math.max(asked, pauses.first * 2 ** Math.max(0, futile - 1));
    await setTimeout(Math.min(pause, pauses.longest), undefined, { ...(signal && { signal }) }).catch(() =>
      signal?.throwIfAborted(),
    );
  }
}

/**
 * Downloads one file to `path` through `path`.incomplete, which a later call resumes. Checks the hash before renaming.
 *
 * @param onBytes called with the number of new bytes; first with those of an earlier call; negative where the server makes
 *   the download begin anew.
 * @throws RmError DOWNLOAD_FAILED, OUTPUT_FAILED, OUTPUT_EXISTS; RefusedRequest; the reason of `signal` once it is aborted.
 */
export async function downloadBlob(
  remote: RemoteFile,
  path: string,
  onBytes: (count: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  const partial = `${path}.incomplete`;
  const { file: target, size: before } = await openPartialFile(partial);
  const incoming = new Incoming(remote, target, partial, onBytes);
  let wrong = false;
  try {
    if (before > remote.size) await target.truncate(0);
    else await incoming.resume(before);
    await receive(remote, incoming, signal);
    await target.sync().catch(() => undefined);
    wrong = !incoming.isRight;
  } finally {
    await target.close();
    if (wrong || incoming.tooLong) await rm(partial, { force: true });
  }
  if (wrong) {
    const what = remote.hash.kind === 'sha256' ? 'SHA-256' : 'git hash';
    throw failed(remote, `the downloaded file's ${what} differs from the hub's, so it was removed`);
  }
  await rename(partial, path).catch(async error => {
    // Another download of the same file may have finished first.
    if ((await stat(path).catch(() => undefined))?.size !== remote.size) throw outputError(error, path);
  });
}
