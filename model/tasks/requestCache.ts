import { createHash } from 'node:crypto';
import { closeSync, fstatSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { outputError } from '../files/outputFolder.js';
import { readLines } from '../files/textFiles.js';
import type { TokenRequest } from './encodeRequest.js';

/** A model's answer to a request. */
export interface Answer {
  /** log p(continuation | context) in nats. */
  readonly logLikelihood: number;
  /** Whether each token of the continuation is the most likely one. */
  readonly isGreedy: boolean;
}

/** A hash over the token ids of both parts. */
export function requestKey({ context, continuation }: TokenRequest): string {
  const hash = createHash('sha256').update(`${context.join(' ')}|${continuation.join(' ')}`);
  return hash.digest('base64url').slice(0, 32);
}

/**
 * Caches the answers of one model on one kind of adapter in an append-only file of JSON lines. All answers of a batch are
 * written at once, so that an interrupted run loses at most one batch. Unreadable lines are skipped.
 */
export class RequestCache {
  readonly #answers = new Map<string, Answer>();
  #file: number | undefined;

  private constructor(readonly path: string) {}

  /** Opens a cache file, which need not exist yet. @throws RmError DATA_INVALID if it exists but cannot be read. */
  static async open(path: string): Promise<RequestCache> {
    const cache = new RequestCache(path);
    if (await stat(path).catch(() => undefined)) {
      for await (const { value } of readLines(path)) cache.#remember(value);
    }
    return cache;
  }

  #remember(line: string): void {
    try {
      const [key, logLikelihood, greedy] = JSON.parse(line) as [unknown, unknown, unknown];
      if (typeof key !== 'string' || typeof logLikelihood !== 'number') return;
      this.#answers.set(key, { logLikelihood, isGreedy: greedy === 1 });
    } catch {
      // The process was killed while writing this line.
    }
  }

  /** Number of cached answers. */
  get size(): number {
    return this.#answers.size;
  }

  /** The cached answer for a `requestKey`. */
  get(key: string): Answer | undefined {
    return this.#answers.get(key);
  }

  /** Adds answers and writes them to the file. @throws RmError OUTPUT_FAILED. */
  add(answers: readonly (readonly [key: string, answer: Answer])[]): void {
    const lines = answers.map(([key, answer]) => {
      this.#answers.set(key, answer);
      return `${JSON.stringify([key, answer.logLikelihood, answer.isGreedy ? 1 : 0])}\n`;
    });
    try {
      this.#file ??= openForAppending(this.path);
      writeSync(this.#file, lines.join(''));
    } catch (error) {
      throw outputError(error, this.path);
    }
  }

  /** Closes the file; all answers are already on disk. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens a file for appending; ends a torn last line first. */
function openForAppending(path: string): number {
  mkdirSync(dirname(path), { recursive: true });
  const file = openSync(path, 'a+');
  const last = Buffer.alloc(1);
  // Reads use the given position, writes append.
  const { size } = fstatSync(file);
  if (size > 0) {
    readSync(file, last, 0, 1, size - 1);
    if (last[0] !== 10) writeSync(file, '\n');
  }
  return file;
}
