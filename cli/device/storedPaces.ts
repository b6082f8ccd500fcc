import type { AdapterInfo } from '../../engine/adapterInfo.js';
import { finite, tableOf } from '../../engine/form.js';
import { reasonOf } from '../../engine/reasons.js';
import type { PaceStore, Paces } from '../../replaceme/run/paces.js';
import type { Terminal } from '../terminal/terminal.js';
import { cacheKey, readUserCache, writeUserCache } from './userCache.js';

const NAME = 'paces';
/** Kinds of runs that are remembered. */
const MOST = 200;

const form = tableOf<Paces>(tableOf(finite(0)));

/** How long runs on this adapter took, in the user's cache. That nothing can be read or kept there stops no run. */
export async function storedPaces(
  info: AdapterInfo,
  terminal: Pick<Terminal, 'warn' | 'detail'>,
  folder?: string,
): Promise<PaceStore> {
  const key = cacheKey(info);
  const place = folder === undefined ? {} : { folder };
  const read = async () =>
    (await readUserCache(NAME, key, { form, warn: text => terminal.warn(text), ...place })) ?? {};
  let stored = await read();
  return {
    paces: likeness => stored[likeness],
    async keep(likeness, paces) {
      // Another run may have written meanwhile. The last ones stay.
      const { [likeness]: _, ...others } = await read();
      stored = Object.fromEntries([...Object.entries(others), [likeness, paces] as const].slice(-MOST));
      try {
        await writeUserCache(NAME, key, stored, folder);
      } catch (error) {
        terminal.detail(`how long this run took is not remembered: ${reasonOf(error)}`);
      }
    },
  };
}
