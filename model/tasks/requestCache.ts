import { closeSync, fstatSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import {
  anything,
  checkArguments,
  type Form,
  finite,
  flag,
  listOf,
  numeric,
  oneOf,
  parseJsonText,
  record,
  sha256,
  sha256OfJson,
  text,
} from '../../engine/index.js';
import { aPath } from '../arguments/forms.js';
import { outputError } from '../files/outputError.js';
import { readLines } from '../files/textFiles.js';
import type { TokenRequest } from './encodeRequest.js';

/** A model's answer to a request. */
export interface Answer {
  /** log p(continuation | context) in nats. */
  readonly logLikelihood: number;
  /** Whether each token of the continuation is the most likely one. */
  readonly isGreedy: boolean;
}

/** Rounding may leave a little more than log 1. */
const logProbability = finite(-Number.MAX_VALUE, 0.001);

/** A hash over the token ids of both parts. */
export function requestKey({ context, continuation }: TokenRequest): string {
  const hash = sha256(`${context.join(' ')}|${continuation.join(' ')}`);
  return Buffer.from(hash, 'hex').toString('base64url').slice(0, 32);
}

/** A hash over what decides a generated text. */
export function textKey(prompt: readonly number[], stops: readonly string[], maxTokens: number): string {
  return sha256OfJson(['text', prompt, stops, maxTokens]).slice(0, 32);
}

/** [key, answer] */
const keyedAnswer: Form<unknown> = (value, place) =>
  listOf(anything, 2, 2)(value, place) ??
  record({ 0: text, 1: record({ logLikelihood: numeric, isGreedy: flag }) })({ ...(value as object) }, place);

/**
 * Caches the answers of one model on one kind of adapter in an append-only file of JSON lines. All answers of a batch are
 * written at once, so that an interrupted run loses at most one batch. Each line ends with a hash over it and the file's
 * name, which names model and adapter. Lines that do not match their hash are not believed, and lines cut off in writing
 * are skipped.
 */
export class RequestCache {
  readonly #answers = new Map<string, Answer>();
  readonly #texts = new Map<string, string>();
  #disbelieved = 0;
  #file: number | undefined;

  private constructor(readonly path: string) {}

  /** Opens a cache file, which need not exist yet. @throws RmError DATA_INVALID if it exists but cannot be read. */
  static async open(path: string): Promise<RequestCache> {
    checkArguments('RequestCache.open', { path }, { path: aPath });
    const cache = new RequestCache(path);
    if (await stat(path).catch(() => undefined)) {
      for await (const { value } of readLines(path)) cache.#remember(value);
    }
    return cache;
  }

  #remember(line: string): void {
    let parts: unknown;
    try {
      parts = parseJsonText(line);
    } catch {
      // The process was killed while writing this line.
      return;
    }
    const all: unknown[] = Array.isArray(parts) ? parts : [];
    const [key, answer, greedy] = all;
    const hash = all.at(-1);
    const generated = all.length === 3;
    const odd =
      text(key, '') ??
      (generated ? text(answer, '') : (logProbability(answer, '') ?? oneOf(0, 1)(greedy, '')));
    if (odd !== undefined || hash !== this.#hashOf(all.slice(0, -1))) this.#disbelieved++;
    else if (generated) this.#texts.set(key as string, answer as string);
    else this.#answers.set(key as string, { logLikelihood: answer as number, isGreedy: greedy === 1 });
  }

  #hashOf(parts: readonly unknown[]): string {
    return sha256OfJson([basename(this.path), ...parts]).slice(0, 16);
  }

  /** Number of lines that were changed after they were written, or that an earlier build wrote without a hash. */
  get disbelieved(): number {
    return this.#disbelieved;
  }

  /** Number of cached answers. */
  get size(): number {
    return this.#answers.size + this.#texts.size;
  }

  /** The cached answer for a `requestKey`. */
  get(key: string): Answer | undefined {
    checkArguments('RequestCache.get', { key }, { key: text });
    return this.#answers.get(key);
  }

  /** The cached text for a `textKey`. */
  getText(key: string): string | undefined {
    checkArguments('RequestCache.getText', { key }, { key: text });
    return this.#texts.get(key);
  }

  /** Adds answers and writes them to the file. @throws RmError OUTPUT_FAILED. */
  add(answers: readonly (readonly [key: string, answer: Answer])[]): void {
    checkArguments('RequestCache.add', { answers }, { answers: listOf(keyedAnswer) });
    for (const [key, answer] of answers) this.#answers.set(key, answer);
    this.#write(answers.map(([key, { logLikelihood, isGreedy }]) => [key, logLikelihood, isGreedy ? 1 : 0]));
  }

  /** Adds generated texts and writes them to the file. @throws RmError OUTPUT_FAILED. */
  addTexts(texts: readonly (readonly [key: string, text: string])[]): void {
    checkArguments('RequestCache.addTexts', { texts }, { texts: listOf(listOf(text, 2, 2)) });
    for (const [key, written] of texts) this.#texts.set(key, written);
    this.#write(texts);
  }

  #write(answers: readonly (readonly unknown[])[]): void {
    const lines = answers.map(parts => `${JSON.stringify([...parts, this.#hashOf(parts)])}\n`);
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
