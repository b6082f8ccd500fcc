import { createReadStream } from 'node:fs';
import { RmError } from '../../engine/index.js';
import { parsePythonJson } from './pythonJson.js';

/** Reads large text files piece by piece: lines, and the elements of a JSON array. Line numbers count from 1. */

interface Located<T> {
  readonly value: T;
  readonly line: number;
}

export const invalidData = (message: string, fix: string, cause?: unknown): RmError =>
  new RmError('DATA_INVALID', message, fix, cause === undefined ? undefined : { cause });

async function* chunks(path: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) yield chunk as Buffer;
  } catch (error) {
    const reason =
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : (error as Error).message;
    throw invalidData(`${path}: ${reason}`, 'Check the path of the text file.', error);
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** Drops a byte order mark at the beginning (TextDecoder's default). */
function decode(bytes: Uint8Array, path: string, line: number): string {
  try {
    return utf8.decode(bytes);
  } catch (error) {
    throw invalidData(`${path}:${line}: not UTF-8 text`, 'Save the file as UTF-8.', error);
  }
}

/**
 * Reads the lines of a UTF-8 file, without their line ends (\n or \r\n). node:readline would also split at U+2028 and
 * U+2029, which may appear unescaped in a JSON string.
 */
export async function* readLines(path: string): AsyncGenerator<Located<string>> {
  let line = 1;
  let rest: Buffer[] = [];
  const text = (bytes: Uint8Array) => decode(bytes, path, line).replace(/\r$/, '');
  for await (const chunk of chunks(path)) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield { value: text(Buffer.concat([...rest, chunk.subarray(start, end)])), line };
      rest = [];
      line++;
      start = end + 1;
    }
    if (start < chunk.byteLength) rest.push(chunk.subarray(start));
  }
  if (rest.length > 0) yield { value: text(Buffer.concat(rest)), line };
}

export function parseJson(text: string, path: string, line: number): unknown {
  try {
    return parsePythonJson(text);
  } catch (error) {
    const message = `${path}:${line}: not JSON: ${(error as Error).message}`;
    throw invalidData(message, 'Correct or remove that place in the file.', error);
  }
}

const isSpace = (byte: number) => byte === 32 || (byte >= 9 && byte <= 13);
const [quote, comma, backslash, newline] = [34, 44, 92, 10];
const opening = new Set([91, 123]);
const closing = new Set([93, 125]);

/**
 * Reads the elements of a JSON array one at a time: such data sets may exceed JavaScript's longest string. Scans the bytes
 * for structure, which is ASCII in UTF-8, and parses each element by itself.
 */
export async function* readJsonArray(path: string): AsyncGenerator<Located<unknown>> {
  const misplaced = (what: string, line: number) =>
    invalidData(
      `${path}:${line}: ${what}`,
      'A .json file should hold one array; use .jsonl for one object per line.',
    );
  let state: 'before' | 'element' | 'after' = 'before';
  let line = 1;
  let startLine = 0; // first line of the current element; 0 between elements
  let elements = 0;
  let depth = 0;
  let inString = false;
  let escaped = false;
  let rest: Buffer[] = [];
  for await (const chunk of chunks(path)) {
    let start = 0;
    for (let i = 0; i < chunk.byteLength; i++) {
      const byte = chunk[i]!;
      if (byte === newline) line++;
      if (state === 'before') {
        if (byte === 91) state = 'element';
        else if (!isSpace(byte) && ![0xef, 0xbb, 0xbf].includes(byte))
          throw misplaced('not a JSON array', line);
        start = i + 1;
      } else if (state === 'after') {
        if (!isSpace(byte)) throw misplaced('the array is followed by other content', line);
      } else if (inString) {
        if (escaped) escaped = false;
        else if (byte === backslash) escaped = true;
        else if (byte === quote) inString = false;
      } else if (depth === 0 && (byte === comma || byte === 93)) {
        const last = byte === 93;
        if (startLine > 0) {
          const text = decode(Buffer.concat([...rest, chunk.subarray(start, i)]), path, startLine);
          yield { value: parseJson(text, path, startLine), line: startLine };
          elements++;
        } else if (!last || elements > 0) throw misplaced('not JSON: an element is missing', line);
        if (last) state = 'after';
        rest = [];
        start = i + 1;
        startLine = 0;
      } else if (!isSpace(byte)) {
        startLine ||= line;
        if (byte === quote) inString = true;
        else if (opening.has(byte)) depth++;
        else if (closing.has(byte)) depth--;
      }
    }
    if (state === 'element') rest.push(chunk.subarray(start));
  }
  if (state === 'before') throw misplaced('the file is empty', line);
  if (state === 'element') throw misplaced('the file ends within the array: it is truncated', line);
}
