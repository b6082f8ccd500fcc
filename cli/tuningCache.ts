import type { AdapterInfo } from '../engine/adapter.js';
import type { Device } from '../engine/device.js';
import type { Tuning } from '../kernels/tunedVariants.js';
import type { Terminal } from './terminal.js';
import { cacheKey, readUserCache, writeUserCache } from './userCache.js';

const NAME = 'tuning';

/** Makes the kernels on this device use what `rm-engine tune` has found for it, if it has. */
export async function loadTuning(device: Device, terminal: Pick<Terminal, 'warn' | 'detail'>): Promise<void> {
  const { applyTuning, isTuning } = await import('../kernels/tunedVariants.js');
  const warn = (text: string) => terminal.warn(`${text}; to measure again: rm-engine tune`);
  const tuning = await readUserCache(NAME, cacheKey(device.info), { valid: isTuning, warn });
  if (!tuning) return;
  applyTuning(device, tuning);
  terminal.detail(`kernel variants as rm-engine tune has chosen them: ${Object.keys(tuning).join(', ')}`);
}

/** Keeps a tuning for this adapter, driver and version. @returns the path. @throws RmError OUTPUT_FAILED. */
export const storeTuning = (adapter: AdapterInfo, tuning: Tuning): Promise<string> =>
  writeUserCache(NAME, cacheKey(adapter), tuning);
