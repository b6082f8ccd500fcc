import { fileChunks, invalidData, type Located, Parts } from './textFiles.js';

const isSpace = (byte: number) => byte === 32 || (byte >= 9 && byte <= 13);
const isMark = (byte: number) => byte === 0xef || byte === 0xbb || byte === 0xbf;
const [quote, comma, backslash, newline, openList, closeList] = [34, 44, 92, 10, 91, 93];
const opening = new Set([openList, 123]);
const closing = new Set([closeList, 125]);

/** Finds where the values of a JSON text begin and end, byte by byte: structure is ASCII in UTF-8. */
class Scanner {
  #depth = 0;
  #inString = false;
  #escaped = false;

  /** Whether the next byte is outside of texts, lists and objects. */
  get between(): boolean {
    return this.#depth === 0 && !this.#inString;
  }

  /** Moves past a byte; true where it ends a list, an object or a text that lies in no other. */
  pass(byte: number): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (byte === backslash) this.#escaped = true;
      else if (byte === quote) this.#inString = false;
      return byte === quote && this.between;
    }
    if (byte === quote) this.#inString = true;
    else if (opening.has(byte)) this.#depth++;
    else if (closing.has(byte)) this.#depth--;
    return closing.has(byte) && this.between;
  }
}

const misplaced = (path: string, what: string, line: number) =>
  invalidData(
    `${path}:${line}: ${what}`,
    'A .json file should hold one list of rows, or one row after the other, as .jsonl does.',
  );

/**
 * The elements of a .json file one at a time, since such data sets may exceed JavaScript's longest string: those of its
 * list, or, in a file that begins with an object, all objects that follow each other.
 */
export async function* readJsonElements(path: string): AsyncGenerator<Located> {
  let form: 'list' | 'objects' | undefined;
  let done = false;
  let line = 1;
  let startLine = 0; // first line of the current element; 0 between elements
  let elements = 0;
  let scanner = new Scanner();
  const rest = new Parts(path);
  for await (const chunk of fileChunks(path)) {
    let start = 0;
    const take = (end: number) => {
      rest.add(chunk.subarray(start, end), startLine);
      const element = { value: rest.take(), line: startLine };
      [start, startLine] = [end, 0];
      elements++;
      scanner = new Scanner();
      return element;
    };
    for (let i = 0; i < chunk.byteLength; i++) {
      const byte = chunk[i]!;
      if (byte === newline) line++;
      if (scanner.between && isSpace(byte)) continue;
      if (done) throw misplaced(path, 'the list is followed by other content', line);
      if (!form) {
        if (isMark(byte) && line === 1) continue;
        if (!opening.has(byte)) throw misplaced(path, 'neither a list nor an object', line);
        form = byte === openList ? 'list' : 'objects';
        start = form === 'list' ? i + 1 : i;
        if (form === 'list') continue;
      }
      if (form === 'list' && scanner.between && (byte === comma || byte === closeList)) {
        done = byte === closeList;
        if (startLine > 0) yield take(i);
        else if (!done || elements > 0) throw misplaced(path, 'not JSON: an element is missing', line);
        start = i + 1;
        continue;
      }
      if (startLine === 0) [startLine, start] = [line, i];
      if (scanner.pass(byte) && form === 'objects') yield take(i + 1);
    }
    if (startLine > 0) rest.add(chunk.subarray(start), startLine);
  }
  if (!form) throw misplaced(path, 'the file is empty', line);
  if (startLine > 0 || (form === 'list' && !done)) {
    throw misplaced(path, 'the file ends within a row: it is truncated', line);
  }
}
