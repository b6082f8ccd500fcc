/**
 * JSON as Python's json module reads and writes it: besides JSON also the numbers NaN, Infinity and -Infinity, which config
 * files of transformers and rows of data sets contain.
 */

/** Begins a string that stands for a number with the spelling that follows. */
const MARK = '\uE000number ';

const isWord = (token: string): boolean => /^(NaN|-?Infinity)$/.test(token);

/** Strings, numbers, and Python's words for numbers. */
const tokens = /"(?:[^"\\]|\\.)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|NaN|-?Infinity/g;

/** Turns those numbers outside of strings that `chosen` names into marked strings. */
const markNumbers = (text: string, chosen: (token: string) => boolean): string =>
  text.replace(tokens, token => (token.startsWith('"') || !chosen(token) ? token : `"${MARK}${token}"`));

/** The number that a marked string stands for; any other value unchanged. */
export const plainNumber = (value: unknown): unknown =>
  typeof value === 'string' && value.startsWith(MARK) ? Number(value.slice(MARK.length)) : value;

/** A number of as many characters as a word of Python, so that messages about the text around it name the right place. */
const numberOfLength = (word: string): string =>
  `${word.startsWith('-') ? '-' : ''}1e`.padEnd(word.length, '0');

/** Parses a text. @throws SyntaxError if it is not JSON, as JSON.parse. */
export function parsePythonJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    if (!/NaN|Infinity/.test(text)) throw error;
  }
  JSON.parse(text.replace(tokens, token => (isWord(token) ? numberOfLength(token) : token)));
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
