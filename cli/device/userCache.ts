import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { AdapterInfo } from '../../engine/adapterInfo.js';
import { cacheFolder } from '../../engine/cacheFolder.js';
import { type Form, record, text } from '../../engine/form.js';
import { parseJsonText } from '../../engine/json.js';
import { reasonOf } from '../../engine/reasons.js';
import { brokenSeal, sealed, sha256 } from '../../engine/seal.js';
import { outputError } from '../../model/files/outputError.js';
import { version } from '../terminal/version.js';

/** The scope of a measurement: another driver or another version of rm-engine may be faster or slower. */
export interface CacheKey {
  readonly adapter: string;
  readonly driver: string;
  readonly version: string;
}

/** The key for measurements on this adapter by this version of rm-engine. */
export const cacheKey = ({ vendor, architecture, device, description }: AdapterInfo): CacheKey => ({
  adapter: [vendor, architecture, device].filter(Boolean).join(' '),
  driver: description,
  version: version(),
});

/** The path of a cache file: one per adapter and driver. A newer rm-engine overwrites an older one's file. */
export function userCachePath(name: string, { adapter, driver }: CacheKey, folder = cacheFolder()): string {
  const mark = sha256(`${adapter}\n${driver}`).slice(0, 12);
  return join(folder, `${name}-${mark}.json`);
}

const keyForm: Form<CacheKey> = record({ adapter: text, driver: text, version: text });

interface ReadOptions<T> {
  /** The form of the stored value. */
  readonly form: Form<T>;
  /** Receives the reason why an existing file is ignored. */
  readonly warn: (text: string) => void;
  readonly folder?: string;
}

/**
 * Reads the value stored under `name` for this key; undefined if the file is missing, unreadable, changed since it was
 * written, or written for another key. Calls `warn` unless the file is missing. Never throws.
 */
export async function readUserCache<T>(
  name: string,
  key: CacheKey,
  { form, warn, folder }: ReadOptions<T>,
): Promise<T | undefined> {
  const path = userCachePath(name, key, folder);
  let content: string;
  try {
    content = await readFile(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') {
      warn(`${path} cannot be read and is ignored: ${reasonOf(error)}`);
    }
    return undefined;
  }
  let stored: unknown;
  try {
    stored = parseJsonText(content);
  } catch {
    warn(`${path} is not JSON and is ignored`);
    return undefined;
  }
  const problem = brokenSeal(stored) ?? record({ key: keyForm })(stored, '');
  if (problem) {
    warn(`${path} is damaged and is ignored: ${problem}`);
    return undefined;
  }
  const { key: written, value } = stored as { key: CacheKey; value: unknown };
  if (written.adapter !== key.adapter || written.driver !== key.driver || written.version !== key.version) {
    const owner = written.version !== key.version ? `rm-engine ${written.version}` : 'another device';
    warn(`${path} was written for ${owner} and is ignored`);
    return undefined;
  }
  const odd = form(value, 'its value');
  if (odd === undefined) return value as T;
  warn(`${path} does not have the expected form and is ignored: ${odd}`);
  return undefined;
}

/**
 * Stores a JSON value. Readers see the old file or the new one, never a part of one.
 *
 * @returns the path written.
 * @throws RmError OUTPUT_FAILED.
 */
export async function writeUserCache(
  name: string,
  key: CacheKey,
  value: unknown,
  folder?: string,
): Promise<string> {
  const path = userCachePath(name, key, folder);
  const temporary = `${path}.${process.pid}`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(temporary, `${JSON.stringify(sealed({ key, value }), null, 2)}\n`);
    await rename(temporary, path);
  } catch (error) {
    // Fails too if the folder itself is the problem.
    await rm(temporary, { force: true }).catch(() => {});
    throw outputError(error, path);
  }
  return path;
}
