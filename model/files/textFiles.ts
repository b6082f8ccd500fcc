import { createReadStream } from 'node:fs';
import { RmError, reasonOf } from '../../engine/index.js';

/** Reads large text files piece by piece. Line numbers count from 1. */

/** Bytes of a text, and the line where they begin. */
export interface Located {
  readonly value: Uint8Array;
  readonly line: number;
}

/** Longest line or element of a list, in bytes: Node's strings end at 512 MB. */
const MOST_BYTES = 2 ** 28;

export const invalidData = (message: string, fix: string, cause?: unknown): RmError =>
  new RmError('DATA_INVALID', message, fix, cause === undefined ? undefined : { cause });

/** The bytes of a file, in parts of `size`. @throws RmError DATA_INVALID where it cannot be read. */
export async function* fileChunks(path: string, size = 1 << 20): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: size })) yield chunk as Buffer;
  } catch (error) {
    throw invalidData(
      `${path}: cannot be read: ${reasonOf(error)}`,
      'Check the path of the text file.',
      error,
    );
  }
}

export const notUtf8 = (where: string, cause: unknown): RmError =>
  invalidData(`${where}: not UTF-8 text`, 'Save the file as UTF-8.', cause);

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Bytes as text, without a byte order mark at the beginning. @throws RmError DATA_INVALID where they are not UTF-8. */
export function decode(bytes: Uint8Array, where: string): string {
  try {
    return utf8.decode(bytes);
  } catch (error) {
    throw notUtf8(where, error);
  }
}

/** Joins the parts of a line or an element. @throws RmError DATA_INVALID for more than MOST_BYTES. */
export class Parts {
  #parts: Uint8Array[] = [];
  #bytes = 0;

  constructor(private readonly path: string) {}

  get empty(): boolean {
    return this.#bytes === 0;
  }

  add(part: Uint8Array, line: number): void {
    this.#parts.push(part);
    this.#bytes += part.byteLength;
    if (this.#bytes <= MOST_BYTES) return;
    throw invalidData(
      `${this.path}:${line}: is longer than ${MOST_BYTES / 2 ** 20} MB without an end`,
      'Divide the text into several rows, or give it as a .txt file.',
    );
  }

  take(): Uint8Array {
    const whole = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    return whole;
  }
}

/** Where a line that begins at `start` ends: the next \n or \r, or -1. */
function lineEnd(chunk: Uint8Array, start: number): number {
  const end = chunk.indexOf(10, start);
  const ended = end < 0 ? chunk : chunk.subarray(0, end);
  const carriage = ended.indexOf(13, start);
  return carriage < 0 ? end : carriage;
}

/**
 * The lines of a text that arrives in parts, without their ends: \n, \r\n or \r. node:readline would also split at U+2028
 * and U+2029, which may appear unescaped in a JSON string.
 */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<Located> {
  const rest = new Parts(path);
  let line = 1;
  let afterCarriage = false;
  for await (const chunk of chunks) {
    let start = afterCarriage && chunk[0] === 10 ? 1 : 0;
    if (chunk.byteLength > 0) afterCarriage = false;
    for (let end = lineEnd(chunk, start); end >= 0; end = lineEnd(chunk, start)) {
      rest.add(chunk.subarray(start, end), line);
      yield { value: rest.take(), line };
      line++;
      start = end + 1;
      if (chunk[end] !== 13) continue;
      if (start === chunk.byteLength) afterCarriage = true;
      else if (chunk[start] === 10) start++;
    }
    if (start < chunk.byteLength) rest.add(chunk.subarray(start), line);
  }
  if (!rest.empty) yield { value: rest.take(), line };
}

/** The lines of a UTF-8 file. */
export async function* readLines(path: string): AsyncGenerator<{ value: string; line: number }> {
  for await (const { value, line } of linesOf(fileChunks(path), path)) {
    yield { value: decode(value, `${path}:${line}`), line };
  }
}
