import { RmError } from '../../engine/index.js';
import { type Architecture, requireBackward } from '../../model/index.js';

/** @throws RmError UNSUPPORTED_FAMILY for a model that cannot be healed by gradient. */
export function requireTrainable(arch: Architecture): void {
  if (arch.vision) {
    throw new RmError(
      'UNSUPPORTED_FAMILY',
      `${arch.family} models encode images and predict no tokens, so they can't be trained on text`,
      'Heal `heal.closedForm`, which needs no gradients.',
    );
  }
  requireBackward(arch);
}
