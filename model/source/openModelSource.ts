import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { inDtype, type WeightDtype } from '../checkpoint/inDtype.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { openSafetensors } from '../checkpoint/safetensors.js';
import { isGgufPath } from '../files/ggufPath.js';
import { readTextFileIfPresent } from '../files/jsonFile.js';
import { GgufSource } from '../gguf/source.js';
import { locateModel } from '../hub/locate.js';

class FolderSource implements ModelSource {
  constructor(
    readonly path: string,
    readonly folder: string,
  ) {}

  nameOf(file: string): string {
    return join(this.folder, file);
  }

  text(file: string): Promise<string | undefined> {
    return readTextFileIfPresent(this.nameOf(file));
  }

  openCheckpoint(): Promise<Checkpoint> {
    return openSafetensors(this.folder);
  }

  async weightFiles(): Promise<string[]> {
    const names = (await readdir(this.folder)).filter(file => file.endsWith('.safetensors')).sort();
    const paths = names.map(name => join(this.folder, name));
    // The weights in use have been read; another entry of that name may be a folder or a link to nothing.
    const found = await Promise.all(paths.map(path => stat(path).catch(() => undefined)));
    return paths.filter((_, i) => found[i]?.isFile());
  }
}

/**
 * The model at `path`, or of that name ("org/name[@revision]") in the Hugging Face cache; nothing of a folder is read
 * yet. The one place that knows in which forms models come.
 *
 * @throws RmError for a name that is not in the cache, or damaged there: CHECKPOINT_MISSING, CHECKPOINT_CORRUPT.
 */
export async function openModelSource(path: string): Promise<ModelSource> {
  if (isGgufPath(path)) return new GgufSource(path);
  const located = await locateModel(path);
  return new FolderSource(path, located.path);
}

/** Opens the weights of the model at `path`. @param dtype as numbers of this type (default: as they are stored). */
export async function openCheckpoint(path: string, dtype?: WeightDtype): Promise<Checkpoint> {
  return inDtype(await (await openModelSource(path)).openCheckpoint(), dtype);
}
