import { isRecord, jsonOrError } from './jsonFile.js';
import { markedJsonText, parseMarkedJson, plainNumber } from './pythonJson.js';

/**
 * JSON that keeps the spelling of its numbers through reading, changing and writing: 30.0 stays 30.0, because strictly
 * typed readers (transformers' configurations) distinguish it from 30, and so do Infinity, NaN, 1e400 and integers of any
 * length. In memory such numbers are marked strings.
 */

/** Parses a JSON text; `path` appears in messages only. @throws RmError CONFIG_INVALID. */
export const parseExactJson = (text: string, path: string): unknown =>
  jsonOrError(parseMarkedJson, text, path);

/** Writes a value of `parseExactJson` as text, indented by two spaces. */
export const exactJsonText = markedJsonText;

/** Turns the marked strings into ordinary numbers. */
export function plainNumbers(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plainNumbers);
  if (!isRecord(value)) return plainNumber(value);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plainNumbers(inner)]));
}
