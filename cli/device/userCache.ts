import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { AdapterInfo } from '../../engine/adapter.js';
import { cacheFolder } from '../../engine/cacheFolder.js';
import { outputError } from '../../model/files/outputFolder.js';
import { version } from '../terminal/version.js';

/** What a measurement holds for: another driver or another rm-engine may be faster or slower. */
export interface CacheKey {
  readonly adapter: string;
  readonly driver: string;
  readonly version: string;
}

/** The key of what is measured on this adapter by this rm-engine. */
export const cacheKey = ({ vendor, architecture, device, description }: AdapterInfo): CacheKey => ({
  adapter: [vendor, architecture, device].filter(Boolean).join(' '),
  driver: description,
  version: version(),
});

/** One file per adapter and driver; a newer rm-engine writes over what an older one left. */
export function userCachePath(name: string, { adapter, driver }: CacheKey, folder = cacheFolder()): string {
  const mark = createHash('sha256').update(`${adapter}\n${driver}`).digest('hex').slice(0, 12);
  return join(folder, `${name}-${mark}.json`);
}

export interface ReadOptions<T> {
  /** Whether the stored value has the form that is expected. */
  readonly valid: (value: unknown) => value is T;
  /** Told why a file that is there is not used. */
  readonly warn: (text: string) => void;
  readonly folder?: string;
}

/**
 * The value stored under `name` for this key. A missing, unreadable, corrupt or foreign file is the same as none; of
 * all but the missing one `warn` is told. Never throws.
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
  const of = stored?.key;
  if (of?.adapter !== key.adapter || of.driver !== key.driver || of.version !== key.version) {
    const whose = of?.version && of.version !== key.version ? `rm-engine ${of.version}` : 'another device';
    warn(`${path} was written for ${whose} and is ignored`);
    return undefined;
  }
  const value = stored?.value;
  if (valid(value)) return value;
  warn(`${path} has another form than expected and is ignored`);
  return undefined;
}

/**
 * Stores a value that JSON can hold; readers see the old file or the new one, never half of one.
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
    // Where the folder itself is at fault, this fails too.
    await rm(temporary, { force: true }).catch(() => {});
    throw outputError(error, path);
  }
  return path;
}
