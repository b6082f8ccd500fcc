import { type Device, type Progress, RmError } from '../../engine/index.js';
import type { Architecture } from '../architecture/architecture.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { configInDtype, type WeightDtype } from '../checkpoint/inDtype.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { requiredTextOf } from '../checkpoint/modelSource.js';
import { compressedWeights, pruneConfig, withHead, withoutCompression } from '../families/index.js';
import { parseExactJson, plainNumbers } from '../files/exactJson.js';
import { isRecord } from '../files/jsonFile.js';
import type { WrittenType } from '../gguf/encode.js';
import type { Replacement } from './replacement.js';

/** The model to write: a model on disk with some of its layers and new values for some tensors. */
export interface ModelToWrite {
  readonly source: ModelSource;
  /** The source's checkpoint, perhaps through `inDtype`. */
  readonly checkpoint: Checkpoint;
  readonly arch: Architecture;
  /** Old indices of the kept layers, ascending. */
  readonly keep: readonly number[];
  /** New values by the names of the checkpoint's tensors. */
  readonly replacements: ReadonlyMap<string, Replacement>;
  /** Dequantises blocks. */
  readonly device: Device;
}

/** Settings of `writeModel`. */
export interface WriteModelOptions {
  /** For a folder: most data bytes per shard (default: 5e9). */
  maxShardBytes?: number;
  /** The number type passed to `inDtype`, if any. */
  dtype?: WeightDtype;
  /** For a GGUF file: storage type of matrices (default: as in the source; new values exactly). */
  type?: WrittenType;
  onProgress?: Progress;
}

/**
 * Cuts config.json to the kept layers and keeps the spelling of its numbers (exactJson.ts). Says where the head has weights of
 * its own, so that every loader takes those that were measured; and the number type, where another is written, or weights were
 * compressed. @throws RmError CONFIG_INVALID.
 */
export async function writtenConfig(
  { source, keep, arch }: ModelToWrite,
  dtype?: WeightDtype,
): Promise<Record<string, unknown>> {
  const text = await requiredTextOf(source, 'config.json');
  const config = parseExactJson(text, source.nameOf('config.json'));
  if (isRecord(config)) {
    const compressed = compressedWeights(plainNumbers(config), source.nameOf('config.json'));
    const cut = withHead(withoutCompression(pruneConfig(config, keep)), arch);
    return configInDtype(cut, dtype ?? compressed?.dtype);
  }
  throw new RmError(
    'CONFIG_INVALID',
    `${source.nameOf('config.json')} is not an object`,
    'Download it again.',
  );
}
