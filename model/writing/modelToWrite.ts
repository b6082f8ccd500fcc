import { type Device, type Progress, RmError } from '../../engine/index.js';
import type { Architecture } from '../architecture/architecture.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import type { WeightDtype } from '../checkpoint/inDtype.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { requiredTextOf } from '../checkpoint/modelSource.js';
import { pruneConfig } from '../families/index.js';
import { parseExactJson } from '../files/exactJson.js';
import { isRecord } from '../files/jsonFile.js';
import type { WrittenType } from '../gguf/encode.js';
import type { Replacement } from './replacement.js';

/** Tensors of the checkpoint that get other values. */
export type Replacements = ReadonlyMap<string, Replacement>;

/** What is written: a model on disk, of which some layers stay and some tensors have other values. */
export interface ModelToWrite {
  readonly source: ModelSource;
  /** Of the source, or `inDtype` of that. */
  readonly checkpoint: Checkpoint;
  readonly arch: Architecture;
  /** Old indices of the layers that stay, ascending. */
  readonly keep: readonly number[];
  readonly replacements: Replacements;
  /** Dequantises what is stored in blocks. */
  readonly device: Device;
}

/** Settings of `writeModel`. */
export interface WriteModelOptions {
  /** Of a folder: data bytes per file before a new shard begins (default: 5e9). */
  maxShardBytes?: number;
  /** The number type that the checkpoint was given by `inDtype`, where it was. */
  dtype?: WeightDtype;
  /** Of a GGUF file: what matrices are stored as (default: as they are in the source, new values exactly). */
  type?: WrittenType;
  onProgress?: Progress;
}

/** config.json for the layers that stay, its numbers as they are spelt (exactJson.ts). @throws RmError CONFIG_INVALID. */
export async function writtenConfig({ source, keep }: ModelToWrite): Promise<Record<string, unknown>> {
  const text = await requiredTextOf(source, 'config.json');
  const config = parseExactJson(text, source.nameOf('config.json'));
  if (isRecord(config)) return pruneConfig(config, keep);
  throw new RmError('CONFIG_INVALID', `${source.nameOf('config.json')} is no object`, 'Download it again.');
}
