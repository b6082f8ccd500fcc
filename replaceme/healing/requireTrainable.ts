import { RmError } from '../../engine/index.js';
import { type Architecture, requireBackward } from '../../model/index.js';

/** Refuses, with UNSUPPORTED_FAMILY, a model that cannot be healed by gradient. */
export function requireTrainable(arch: Architecture): void {
  if (arch.vision) {
    throw new RmError(
      'UNSUPPORTED_FAMILY',
      `${arch.family} models encode images: they predict no tokens that they could be trained on`,
      'Use `heal.closedForm`, which needs no gradients.',
    );
  }
  requireBackward(arch);
}
