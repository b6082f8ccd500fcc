import type { AdapterInfo } from '../../engine/adapter.js';
import type { Device } from '../../engine/device.js';
import type { Tuning } from '../../kernels/shared/tunedVariants.js';
import type { Terminal } from '../terminal/terminal.js';
import { cacheKey, readUserCache, writeUserCache } from './userCache.js';

const NAME = 'tuning';

/** Makes the kernels on this device use what `rm-engine tune` has found for it, if it has. */
export async function loadTuning(device: Device, terminal: Pick<Terminal, 'warn' | 'detail'>): Promise<void> {
  const { applyTuning, isTuning } = await import('../../kernels/shared/tunedVariants.js');
  const warn = (text: string) => terminal.warn(`${text}; measure again with: rm-engine tune`);
  const tuning = await readUserCache(NAME, cacheKey(device.info), { valid: isTuning, warn });
  if (!tuning) return;
  applyTuning(device, tuning);
  const classes = Object.values(tuning).flatMap(Object.keys).length;
  terminal.detail(
    `kernels as rm-engine tune has measured them: ${classes} choices differ from the built-in ones`,
  );
}

/** Keeps a tuning for this adapter, driver and version. @returns the path. @throws RmError OUTPUT_FAILED. */
export const storeTuning = (adapter: AdapterInfo, tuning: Tuning): Promise<string> =>
  writeUserCache(NAME, cacheKey(adapter), tuning);
