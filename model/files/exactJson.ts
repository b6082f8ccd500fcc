import { isRecord, parseJson } from './jsonFile.js';

/**
 * JSON that keeps the spelling of its numbers through reading, changing and writing: 30.0 stays 30.0, because strictly
 * typed readers (transformers' configurations) distinguish it from 30. In memory such numbers are marked strings.
 */
const MARK = '\uE000number ';

const numbers = /"(?:[^"\\]|\\.)*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Parses a JSON text; `path` appears in messages only. @throws RmError CONFIG_INVALID. */
export const parseExactJson = (text: string, path: string): unknown =>
  parseJson(
    text.replace(numbers, token =>
      token.startsWith('"') || JSON.stringify(Number(token)) === token ? token : `"${MARK}${token}"`,
    ),
    path,
  );

/** Writes a value of `parseExactJson` as text, indented by two spaces. */
export const exactJsonText = (value: unknown): string =>
  JSON.stringify(value, null, 2).replaceAll(new RegExp(`"${MARK}([^"]+)"`, 'g'), '$1');

/** Turns the marked strings into ordinary numbers. */
export function plainNumbers(value: unknown): unknown {
  if (typeof value === 'string') return value.startsWith(MARK) ? Number(value.slice(MARK.length)) : value;
  if (Array.isArray(value)) return value.map(plainNumbers);
  if (!isRecord(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plainNumbers(inner)]));
}
