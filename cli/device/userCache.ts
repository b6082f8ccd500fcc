import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { AdapterInfo } from '../../engine/adapter.js';
import { cacheFolder } from '../../engine/cacheFolder.js';
import { outputError } from '../../model/files/outputFolder.js';
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
  const mark = createHash('sha256').update(`${adapter}\n${driver}`).digest('hex').slice(0, 12);
  return join(folder, `${name}-${mark}.json`);
}

interface ReadOptions<T> {
  /** Whether the stored value has the expected form. */
  readonly valid: (value: unknown) => value is T;
  /** Receives the reason why an existing file is ignored. */
  readonly warn: (text: string) => void;
  readonly folder?: string;
}

/**
 * Reads the value stored under `name` for this key; undefined if the file is missing, unreadable, corrupt or written for
 * another key. Calls `warn` unless the file is missing. Never throws.
 */
export async function readUserCache<T>(
  name: string,
  key: CacheKey,
  { valid, warn, folder }: ReadOptions<T>,
): Promise<T | undefined> {
  const path = userCachePath(name, key, folder);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') warn(`${path} cannot be read and is ignored: ${message}`);
    return undefined;
  }
  let stored: { key?: Partial<CacheKey>; value?: unknown } | null;
  try {
    stored = JSON.parse(text);
  } catch {
    warn(`${path} is not JSON and is ignored`);
    return undefined;
  }
  const { adapter, driver, version: writer } = stored?.key ?? {};
  if (adapter !== key.adapter || driver !== key.driver || writer !== key.version) {
    const owner = writer && writer !== key.version ? `rm-engine ${writer}` : 'another device';
    warn(`${path} was written for ${owner} and is ignored`);
    return undefined;
  }
  const value = stored?.value;
  if (valid(value)) return value;
  warn(`${path} does not have the expected form and is ignored`);
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
    await writeFile(temporary, `${JSON.stringify({ key, value }, null, 2)}\n`);
    await rename(temporary, path);
  } catch (error) {
    // Fails too if the folder itself is the problem.
    await rm(temporary, { force: true }).catch(() => {});
    throw outputError(error, path);
  }
  return path;
}
