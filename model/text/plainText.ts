import { decode, fileChunks, linesOf, notUtf8 } from '../files/textFiles.js';

/** Plain text, read in parts: a file may be longer than a string can be. */

/** Characters after which a document is divided where it has no empty line. */
const LONGEST = 2 ** 20;

/** Finds the line that is not UTF-8. @throws RmError DATA_INVALID naming it. */
async function refuseLine(path: string, cause: unknown): Promise<never> {
  for await (const { value, line } of linesOf(fileChunks(path), path)) decode(value, `${path}:${line}`);
  throw notUtf8(path, cause);
}

/**
 * Reads a UTF-8 text as it is, in parts; only a byte order mark is left out.
 *
 * @throws RmError DATA_INVALID where it is not UTF-8.
 */
export async function* readPlainText(path: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  for await (const chunk of fileChunks(path)) {
    let part: string;
    try {
      part = decoder.decode(chunk, { stream: true });
    } catch (error) {
      return await refuseLine(path, error);
    }
    if (part !== '') yield part;
  }
  try {
    decoder.decode();
  } catch (error) {
    await refuseLine(path, error);
  }
}

/** The lines of a text with their ends: \n, \r\n or \r. A line is divided where it is longer than LONGEST. */
async function* linesWithEnds(parts: AsyncIterable<string>): AsyncGenerator<string> {
  let rest = '';
  for await (const part of parts) {
    const lines = (rest + part).split(/(?<=\n|\r(?!\n))/);
    rest = lines.pop()!;
    yield* lines;
    if (rest.length <= LONGEST) continue;
    yield rest;
    rest = '';
  }
  if (rest !== '') yield rest;
}

/**
 * Reads documents separated by empty lines. A document is as it stands in the file, without the empty lines around it;
 * one of more than LONGEST characters is divided.
 */
export async function* readParagraphs(path: string): AsyncGenerator<{ text: string; where: string }> {
  let line = 1;
  let [lines, length, first]: [string[], number, number] = [[], 0, 0];
  const take = () => {
    const document = { text: lines.join('').replace(/\r?\n$|\r$/, ''), where: `${path}:${first}` };
    [lines, length] = [[], 0];
    return document;
  };
  for await (const text of linesWithEnds(readPlainText(path))) {
    if (text.trim() === '') {
      if (lines.length > 0) yield take();
    } else {
      if (lines.length === 0) first = line;
      lines.push(text);
      length += text.length;
      if (length > LONGEST) yield take();
    }
    if (/[\r\n]$/.test(text)) line++;
  }
  if (lines.length > 0) yield take();
}
