import { isPeakRates, type PeakRates } from '../../bench/peakRates.js';
import type { AdapterInfo } from '../../engine/adapter.js';
import type { Terminal } from '../terminal/terminal.js';
import { cacheKey, readUserCache, writeUserCache } from './userCache.js';

const NAME = 'peak';

/** The peak that `bench peak` has stored for this adapter, if there is one; a damaged one is warned of. */
export const storedPeak = (
  info: AdapterInfo,
  terminal: Pick<Terminal, 'warn'>,
): Promise<PeakRates | undefined> =>
  readUserCache(NAME, cacheKey(info), {
    valid: isPeakRates,
    warn: text => terminal.warn(`${text}; measure again with: rm-engine bench peak`),
  });

/** Stores what `bench peak` has measured. @returns the path. */
export const storePeak = (info: AdapterInfo, peak: PeakRates): Promise<string> =>
  writeUserCache(NAME, cacheKey(info), peak);
