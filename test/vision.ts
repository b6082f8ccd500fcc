import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Tiny CLIP encoders and images with what transformers makes of them: test/python/make_clip.py. */
export const clip = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'test', 'data', 'clip');

export const images = join(clip, 'images');
/** In the order of the golden data. */
export const imageFiles = readdirSync(images)
  .sort()
  .map(name => join(images, name));

/** Whether images can be read: sharp is an optional dependency. */
export const installed = isInstalled('sharp');

function isInstalled(name: string): boolean {
  try {
    import.meta.resolve(name);
    return true;
  } catch {
    return false;
  }
}
