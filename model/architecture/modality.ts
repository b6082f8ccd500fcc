import { RmError } from '../../engine/index.js';
import type { Architecture, VisionInput } from './architecture.js';

/** Returns the model's vision settings. @throws RmError UNSUPPORTED_FAMILY if it reads text, not images. */
export function requireVision({ family, vision }: Architecture): VisionInput {
  if (vision) return vision;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `a ${family} model reads text, not images`,
    'Give the folder of a vision encoder: one of CLIP, SigLIP or ViT.',
  );
}

/** Checks that a model reads text. @throws RmError UNSUPPORTED_FAMILY if it reads images. */
export function requireText({ family, vision }: Architecture): void {
  if (!vision) return;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `a ${family} model serves as an image encoder here and reads no text`,
    'Give the folder of a language model. Vision encoders work with prune and inspect only.',
  );
}
