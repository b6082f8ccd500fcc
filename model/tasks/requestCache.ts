import { createHash } from 'node:crypto';
import { closeSync, fstatSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { outputError } from '../files/outputFolder.js';
import { readLines } from '../files/textFiles.js';
import type { TokenRequest } from './encodeRequest.js';

/** What a model says to a request. */
export interface Answer {
  /** log p(continuation | context) in nats. */
  readonly logLikelihood: number;
  /** Whether each token of the continuation is the most likely one. */
  readonly isGreedy: boolean;
}

/** Of the token ids of both parts. */
export function requestKey({ context, continuation }: TokenRequest): string {
  const hash = createHash('sha256').update(`${context.join(' ')}|${continuation.join(' ')}`);
  return hash.digest('base64url').slice(0, 32);
}

/**
 * Answers of one model on one kind of adapter, kept in a file of JSON lines that only grows. The answers of a batch
 * are written at once, so that a run which is stopped, in whatever way, loses no more than the batch it was at. A line
 * that cannot be read is passed over.
 */
export class RequestCache {
  readonly #answers = new Map<string, Answer>();
  #file: number | undefined;

  private constructor(readonly path: string) {}

  /** @throws RmError DATA_INVALID where the file is there and cannot be read. */
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
      // A line that was being written when the process was killed.
    }
  }

  /** Answers it holds. */
  get size(): number {
    return this.#answers.size;
  }

  /** The answer to a request by `requestKey`, where it is known. */
  get(key: string): Answer | undefined {
    return this.#answers.get(key);
  }

  /** @throws RmError OUTPUT_FAILED. */
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

  /** Closes the file; what was added is on disk already. */
  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens a file behind its last line, which is ended first where it was torn. */
function openForAppending(path: string): number {
  mkdirSync(dirname(path), { recursive: true });
  const file = openSync(path, 'a+');
  const last = Buffer.alloc(1);
  // Reads go to the position given, writes to the end.
  const { size } = fstatSync(file);
  if (size > 0) {
    readSync(file, last, 0, 1, size - 1);
    if (last[0] !== 10) writeSync(file, '\n');
  }
  return file;
}
