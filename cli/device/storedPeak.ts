import { type PeakRates, peakForm } from '../../bench/peakRates.js';
import type { AdapterInfo } from '../../engine/adapterInfo.js';
import type { Terminal } from '../terminal/terminal.js';
import { cacheKey, readUserCache, writeUserCache } from './userCache.js';

const NAME = 'peak';

/** The peak that `bench peak` stored for this adapter, if any. Warns of a damaged file. */
export const storedPeak = (
  info: AdapterInfo,
  terminal: Pick<Terminal, 'warn'>,
): Promise<PeakRates | undefined> =>
  readUserCache(NAME, cacheKey(info), {
    form: peakForm,
    warn: text => terminal.warn(`${text}; measure again with: rm-engine bench peak`),
  });

/** Stores the peak that `bench peak` measured. @returns the path. @throws RmError OUTPUT_FAILED. */
export const storePeak = (info: AdapterInfo, peak: PeakRates): Promise<string> =>
  writeUserCache(NAME, cacheKey(info), peak);
