import { ensure } from '../../engine/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import {
  calibrationSettings,
  cosineSettings,
  methodSettings,
  repairSettings,
} from '../options/pruneSettings.js';
import { type DeclaredSetting, listed, settingValue } from '../options/setting.js';

/** Settings that the original program does not have. */
const foreign: readonly DeclaredSetting[] = [
  repairSettings.heal,
  ...listed(methodSettings, cosineSettings).filter(({ of }) => of !== 'replaceme-ls'),
  ...[calibrationSettings.weights, calibrationSettings.mask, calibrationSettings.generate],
];

/**
 * The options with what `faithful` decides.
 *
 * @throws RmError INVALID_ARGUMENT for options that the original program does not have.
 */
export function faithfulOptions(options: PruneOptions): PruneOptions {
  const { method = 'replaceme-ls', select = 'angular' } = options;
  const unknown = foreign.find(setting => settingValue(setting, options) !== undefined);
  ensure(
    unknown === undefined && method === 'replaceme-ls',
    `the original program has no ${unknown === undefined ? `method '${method}'` : `\`${unknown.name}\``}`,
    'Leave it out, or leave out `faithful`.',
  );
  return { ...options, method, select };
}
