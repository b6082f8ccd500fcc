import { isRecord, parseJson } from './jsonFile.js';

/**
 * JSON that is read, changed and written again with its numbers as they were spelt: 30.0 stays 30.0, which strictly typed
 * readers (transformers' configurations) tell from 30. Such numbers are strings that begin with a mark meanwhile.
 */
const MARK = '\uE000number ';

const numbers = /"(?:[^"\\]|\\.)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** The JSON value of a text; `path` is used in messages only. Throws CONFIG_INVALID. */
export const parseExactJson = (text: string, path: string): unknown =>
  parseJson(
    text.replace(numbers, token =>
      token.startsWith('"') || JSON.stringify(Number(token)) === token ? token : `"${MARK}${token}"`,
    ),
    path,
  );

/** A text of what `parseExactJson` gave, with two spaces a level. */
export const exactJsonText = (value: unknown): string =>
  JSON.stringify(value, null, 2).replaceAll(new RegExp(`"${MARK}([^"]+)"`, 'g'), '$1');

/** The same with ordinary numbers, to be read. */
export function plainNumbers(value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith(MARK) ? Number(value.slice(MARK.length)) : value;
  if (Array.isArray(value)) return value.map(plainNumbers);
  if (!isRecord(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plainNumbers(inner)]));
}
