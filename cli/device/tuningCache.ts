import type { AdapterInfo } from '../../engine/adapterInfo.js';
import type { Device } from '../../engine/device.js';
import type { Tuning } from '../../kernels/shared/tunedVariants.js';
import type { Terminal } from '../terminal/terminal.js';
import { cacheKey, readUserCache, writeUserCache } from './userCache.js';

const NAME = 'tuning';

/** Makes the kernels on this device use the variants that `rm-engine tune` stored for it, if any. */
export async function loadTuning(device: Device, terminal: Pick<Terminal, 'warn' | 'detail'>): Promise<void> {
  const { applyTuning, tuningForm } = await import('../../kernels/shared/tunedVariants.js');
  const warn = (text: string) => terminal.warn(`${text}; measure again with: rm-engine tune`);
  const tuning = await readUserCache(NAME, cacheKey(device.info), { form: tuningForm, warn });
  if (!tuning) return;
  applyTuning(device, tuning);
  const classes = Object.values(tuning).flatMap(Object.keys).length;
  terminal.detail(`kernel variants from rm-engine tune: ${classes} choices differ from the built-in ones`);
}

/** Stores a tuning for this adapter, driver and version. @returns the path. @throws RmError OUTPUT_FAILED. */
export const storeTuning = (adapter: AdapterInfo, tuning: Tuning): Promise<string> =>
  writeUserCache(NAME, cacheKey(adapter), tuning);
