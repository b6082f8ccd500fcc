import { readFile, stat } from 'node:fs/promises';
import { RmError, reasonOf } from '../../engine/index.js';
import { notTheFile } from './notTheFile.js';
import { parsePythonJson } from './pythonJson.js';

export { isRecord } from '../../engine/index.js';

const isMissing = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

/** Near the longest string of JavaScript. */
const MOST_BYTES = 500_000_000;

/** Reads a UTF-8 file of a model folder; undefined if it does not exist. @throws RmError CONFIG_INVALID, CHECKPOINT_MISSING. */
export async function readTextFileIfPresent(path: string): Promise<string | undefined> {
  const unreadable = (problem: string, cause?: unknown) =>
    new RmError('CHECKPOINT_MISSING', `${path} cannot be read: ${problem}`, 'Check the file.', { cause });
  try {
    const stats = await stat(path);
    // Reading something other than a file, such as a pipe, might never end.
    if (!stats.isFile()) throw unreadable('it is not a file');
    if (stats.size > MOST_BYTES) throw unreadable('it has more than 500 MB');
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (error) {
    if (error instanceof RmError) throw error;
    if (isMissing(error)) return undefined;
    if (error instanceof TypeError) {
      throw new RmError('CONFIG_INVALID', `${path} is not UTF-8 text`, 'Download or copy the file again.', {
        cause: error,
      });
    }
    throw unreadable(reasonOf(error), error);
  }
}

/** Parses a JSON file; undefined if it does not exist. @throws RmError CONFIG_INVALID if it is not JSON. */
export async function readJsonFileIfPresent(path: string): Promise<unknown> {
  const text = await readTextFileIfPresent(path);
  return text === undefined ? undefined : parseJson(text, path);
}

/** Parses a JSON text, also with Python's NaN and Infinity; `path` appears in messages only. @throws RmError CONFIG_INVALID. */
export const parseJson = (text: string, path: string): unknown => jsonOrError(parsePythonJson, text, path);

/** Parses a text by `parse`, and says what the file is where it is no JSON. @throws RmError CONFIG_INVALID. */
export function jsonOrError(parse: (text: string) => unknown, text: string, path: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    const { problem, fix } = notTheFile(text) ?? {
      problem: `is not valid JSON: ${reasonOf(error)}`,
      fix: 'Download the file again, or correct it at that place.',
    };
    throw new RmError('CONFIG_INVALID', `${path} ${problem}`, fix, { cause: error });
  }
}
