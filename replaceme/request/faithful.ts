import { ensure } from '../../engine/index.js';
import { FAITHFUL_TEXTS } from '../calibration/faithful.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import {
  calibrationSettings,
  cosineSettings,
  methodSettings,
  repairSettings,
} from '../options/pruneSettings.js';
import { type DeclaredSetting, listed, settingValue } from '../options/setting.js';

/**
 * What `faithful` does as the original ReplaceMe program (mts-ai/ReplaceMe at 5bb71d9), and where the code switches it.
 * Left out of that program: activations of a 4-bit model, the final norm in the states of the last layer, and a second
 * transform for touching windows that is folded into the wrong product.
 */
export const faithfulQuirks: readonly string[] = [
  // selections/angular.ts
  'windows are chosen by the angular distance of the last token of every text',
  // calibration/faithful.ts
  'conversations are tokenised with special tokens after the template has written them: BOS twice',
  'every text is one sequence, cut at `sequenceLength`; what follows is not read',
  'texts are padded by eights, and padding counts in the Gram matrix; a rest below 8 is left out',
  // calibrationSizes
  `texts of up to ${FAITHFUL_TEXTS} full sequences are read unless \`tokens\` says otherwise`,
  // settings.unprunedInputs, repairInOrder.ts
  'with several `windows` all transforms are fitted on the unpruned model',
];

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
