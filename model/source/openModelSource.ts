import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { checkArguments, RmError, reasonOf } from '../../engine/index.js';
import type { Architecture } from '../architecture/architecture.js';
import { anArchitecture, aPath, maybeDtype } from '../arguments/forms.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { expectedCheckpoint } from '../checkpoint/expectedCheckpoint.js';
import { SplitExperts } from '../checkpoint/fusedExperts.js';
import { inDtype, type WeightDtype } from '../checkpoint/inDtype.js';
import { missingFile } from '../checkpoint/missingFile.js';
import { jsonOf, type ModelSource } from '../checkpoint/modelSource.js';
import { openSafetensors } from '../checkpoint/safetensors.js';
import { openCompressed } from '../compressed/openCompressed.js';
import { compressedWeights, storesExpertsTogether } from '../families/index.js';
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

  missing(file: string): Promise<RmError> {
    return missingFile(this.folder, file);
  }

  async openCheckpoint(): Promise<Checkpoint> {
    const stored = await openSafetensors(this.folder);
    const config = await jsonOf(this, 'config.json');
    const compressed = compressedWeights(config, this.nameOf('config.json'));
    if (compressed) return await openCompressed(stored, compressed.compression, compressed.dtype);
    return storesExpertsTogether(config) ? new SplitExperts(stored) : stored;
  }

  async weightFiles(): Promise<string[]> {
    const all = await readdir(this.folder).catch(error => {
      const message = `${this.folder}: cannot be read: ${reasonOf(error)}`;
      throw new RmError('CHECKPOINT_MISSING', message, 'Check its permissions.', { cause: error });
    });
    const names = all.filter(file => file.endsWith('.safetensors')).sort();
    const paths = names.map(name => join(this.folder, name));
    // An entry with this ending may also be a folder or a broken link.
    const stats = await Promise.all(paths.map(path => stat(path).catch(() => undefined)));
    return paths.filter((_, i) => stats[i]?.isFile());
  }
}

/** A config.json alone, under any name. */
class ConfigSource extends FolderSource {
  override nameOf(file: string): string {
    return file === 'config.json' ? this.path : super.nameOf(file);
  }

  override async text(file: string): Promise<string | undefined> {
    return file === 'config.json' ? super.text(file) : undefined;
  }

  override async openCheckpoint(): Promise<Checkpoint> {
    throw await this.missing();
  }

  override async missing(): Promise<RmError> {
    return new RmError(
      'CHECKPOINT_MISSING',
      `${this.path}: is one of a model's files, without the others`,
      'Give the folder of the model. A config.json alone is enough for `inspect`.',
    );
  }

  override async weightFiles(): Promise<string[]> {
    return [];
  }
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    stats => stats.isDirectory(),
    () => false,
  );

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    stats => stats.isFile(),
    () => false,
  );

/**
 * Opens a model of any form: a folder, a GGUF file, a config.json alone, or a name ("org/name[@revision]") in the Hugging Face cache. Files are
 * read on demand. Only this function knows which forms exist.
 *
 * @throws RmError CHECKPOINT_MISSING, CHECKPOINT_CORRUPT if the cache lacks the named model or holds a damaged one.
 */
export async function openModelSource(path: string): Promise<ModelSource> {
  checkArguments('openModelSource', { path }, { path: aPath });
  if (isGgufPath(path) && !(await isFolder(path))) return new GgufSource(path);
  if (path.endsWith('.json') && (await isFile(path))) return new ConfigSource(path, dirname(path));
  const location = await locateModel(path);
  return new FolderSource(path, location.path);
}

/** The headers of a model's weights: where there are none, those that config.json describes, in its number type. */
export async function openHeaders(
  path: string,
  arch: Architecture,
  dtype?: WeightDtype,
): Promise<Checkpoint> {
  checkArguments(
    'openHeaders',
    { path, arch, dtype },
    { path: aPath, arch: anArchitecture, dtype: maybeDtype },
  );
  try {
    return await openCheckpoint(path, dtype);
  } catch (error) {
    if (!(error instanceof RmError) || error.code !== 'CHECKPOINT_MISSING') throw error;
    return inDtype(expectedCheckpoint(path, arch, arch.dtype ?? 'bf16'), dtype);
  }
}

/** Opens the weights of a model. @param dtype number type to present them in (default: as stored). */
export async function openCheckpoint(path: string, dtype?: WeightDtype): Promise<Checkpoint> {
  checkArguments('openCheckpoint', { path, dtype }, { path: aPath, dtype: maybeDtype });
  return inDtype(await (await openModelSource(path)).openCheckpoint(), dtype);
}
