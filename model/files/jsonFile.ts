import { readFile } from 'node:fs/promises';
import { RmError } from '../../engine/index.js';

const isMissing = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

/** Reads a UTF-8 file of a model folder; undefined if it does not exist. @throws RmError CONFIG_INVALID, CHECKPOINT_MISSING. */
export async function readTextFileIfPresent(path: string): Promise<string | undefined> {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (error) {
    if (isMissing(error)) return undefined;
    if (error instanceof TypeError) {
      throw new RmError('CONFIG_INVALID', `${path} is not UTF-8 text`, 'Download or copy the file again.', {
        cause: error,
      });
    }
    const reason = (error as Error).message;
    throw new RmError('CHECKPOINT_MISSING', `${path} cannot be read: ${reason}`, 'Check its permissions.', {
      cause: error,
    });
  }
}

/** Parses a JSON file; undefined if it does not exist. @throws RmError CONFIG_INVALID if it is not JSON. */
export async function readJsonFileIfPresent(path: string): Promise<unknown> {
  const text = await readTextFileIfPresent(path);
  return text === undefined ? undefined : parseJson(text, path);
}

/** Parses a JSON text; `path` appears in messages only. @throws RmError CONFIG_INVALID. */
export function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new RmError(
      'CONFIG_INVALID',
      `${path} is not valid JSON: ${(error as Error).message}`,
      'Download the file again, or correct it at that place.',
      { cause: error },
    );
  }
}

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
