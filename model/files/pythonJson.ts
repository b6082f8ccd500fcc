import { endOfString, parseJsonText } from '../../engine/index.js';

/**
 * JSON as Python's json module reads and writes it: besides JSON also the numbers NaN, Infinity and -Infinity, which config
 * files of transformers and rows of data sets contain.
 */

/** Begins a string that stands for a number with the spelling that follows. */
const MARK = '\uE000number ';

const isWord = (token: string): boolean => /^(NaN|-?Infinity)$/.test(token);

/** Numbers, and Python's words for numbers. */
const numbers = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|NaN|-?Infinity/g;

/** Replaces the numbers outside of strings. No pattern spans a string: a long one would overflow the stack of patterns. */
function replaceNumbers(text: string, change: (token: string) => string): string {
  const parts: string[] = [];
  for (let at = 0; at < text.length; ) {
    const open = text.indexOf('"', at);
    const outside = open < 0 ? text.slice(at) : text.slice(at, open);
    parts.push(outside.replace(numbers, change));
    if (open < 0) break;
    const end = endOfString(text, open);
    at = end < 0 ? text.length : end;
    parts.push(text.slice(open, at));
  }
  return parts.join('');
}

/** Turns those numbers outside of strings that `chosen` names into marked strings. */
const markNumbers = (text: string, chosen: (token: string) => boolean): string =>
  replaceNumbers(text, token => (chosen(token) ? `"${MARK}${token}"` : token));

/** The number that a marked string stands for; any other value unchanged. */
export const plainNumber = (value: unknown): unknown =>
  typeof value === 'string' && value.startsWith(MARK) ? Number(value.slice(MARK.length)) : value;

/** A number of as many characters as a word of Python, so that messages about the text around it name the right place. */
const numberOfLength = (word: string): string =>
  `${word.startsWith('-') ? '-' : ''}1e`.padEnd(word.length, '0');

/** Parses a text. @throws SyntaxError if it is not JSON, as JSON.parse, or nests too deep. */
export function parsePythonJson(text: string): unknown {
  try {
    return parseJsonText(text);
  } catch (error) {
    if (!/NaN|Infinity/.test(text)) throw error;
  }
  parseJsonText(replaceNumbers(text, token => (isWord(token) ? numberOfLength(token) : token)));
  return JSON.parse(markNumbers(text, isWord), (_, value) => plainNumber(value)) as unknown;
}

/** Parses a text; numbers that JavaScript would spell otherwise become marked strings. @throws SyntaxError. */
export function parseMarkedJson(text: string): unknown {
  parsePythonJson(text);
  return JSON.parse(markNumbers(text, token => JSON.stringify(Number(token)) !== token)) as unknown;
}

/** Writes a value as text, indented by two spaces, with marked strings as numbers. */
export const markedJsonText = (value: unknown): string =>
  JSON.stringify(value, null, 2).replaceAll(new RegExp(`"${MARK}([^"]+)"`, 'g'), '$1');
