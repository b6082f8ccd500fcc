import type { FileKind } from '../files/outputKind.js';
import { openSafetensorsFile, type SafetensorsFile } from './safetensors.js';

/** A kind of safetensors file that is recognised by its header. */
export const safetensorsKind = (name: string, isOne: (file: SafetensorsFile) => boolean): FileKind => ({
  name,
  async isOne(path) {
    try {
      const file = await openSafetensorsFile(path);
      await file.close();
      return isOne(file);
    } catch {
      return false;
    }
  },
});
