import { RmError } from '../../engine/index.js';
import type { Architecture, VisionInput } from './architecture.js';

/** @throws RmError UNSUPPORTED_FAMILY where the model reads text, not images. */
export function requireVision({ family, vision }: Architecture): VisionInput {
  if (vision) return vision;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `a ${family} model reads text, not images`,
    'Give the folder of a vision encoder: CLIPModel, CLIPVisionModel or CLIPVisionModelWithProjection.',
  );
}

/** @throws RmError UNSUPPORTED_FAMILY where the model reads images, not text. */
export function requireText({ family, vision }: Architecture): void {
  if (!vision) return;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `a ${family} model is used as an encoder of images here, it has no text`,
    'Give the folder of a language model; prune and inspect are what vision encoders can be used with.',
  );
}
