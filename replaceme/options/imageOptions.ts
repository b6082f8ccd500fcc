import { ensure } from '../../engine/index.js';
import type { PruneOptions } from './pruneOptions.js';

/**
 * Checks the options of a prune of an image encoder.
 *
 * @param needed whether there is anything to calibrate.
 * @throws RmError INVALID_ARGUMENT for settings that have no meaning for images, or where there are none.
 */
export function checkImageOptions(options: PruneOptions, needed: boolean): void {
  const textual = (
    [
      'calibrationTasks',
      'weights',
      'mask',
      'generate',
      'faithful',
      'textField',
      'date',
      'statistics',
    ] as const
  ).filter(name => options[name] !== undefined && options[name] !== false);
  ensure(
    textual.length === 0,
    `an encoder of images is pruned without ${textual.map(name => `\`${name}\``).join(', ')}`,
    'Leave that out: it concerns texts.',
  );
  ensure(
    !needed || !!options.calibration?.length,
    'no images are given to calibrate with',
    'Give folders of images or image files as `calibration`.',
  );
}
