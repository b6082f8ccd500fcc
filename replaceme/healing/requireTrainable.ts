import { RmError } from '../../engine/index.js';
import type { Architecture } from '../../model/architecture/architecture.js';
import { requireBackward } from '../../model/training/layerBackward.js';

/** Refuses, with UNSUPPORTED_FAMILY, a model that cannot be healed by gradient. */
export function requireTrainable(arch: Architecture): void {
  if (arch.vision) {
    throw new RmError(
      'UNSUPPORTED_FAMILY',
      `${arch.family} models encode images: they predict no tokens that they could be trained on`,
      'Heal by --heal closed-form, which needs no gradients.',
    );
  }
  requireBackward(arch);
}
