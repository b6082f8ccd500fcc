import type { RmError } from '../../engine/index.js';
import { parseJson } from '../files/jsonFile.js';
import type { Checkpoint } from './checkpoint.js';

/**
 * A model on disk in any form, folder or GGUF file: the texts of a Hugging Face model folder's files (config.json,
 * tokenizer.json, chat_template.jinja ...) and the weights.
 */
export interface ModelSource {
  /** The path or name that the caller gave. */
  readonly path: string;
  /** The folder whose other files belong to the model; null if there is none. */
  readonly folder: string | null;
  /** The name of one of the files, for messages. */
  nameOf(file: string): string;
  /** The error for one of the files that the model lacks: why, and what to do. */
  missing(file: string): Promise<RmError>;
  /** Reads one of the files; undefined if the model lacks it. @throws RmError CONFIG_INVALID, CHECKPOINT_MISSING. */
  text(file: string): Promise<string | undefined>;
  /** Opens the weights. @throws RmError CHECKPOINT_MISSING, CHECKPOINT_CORRUPT. */
  openCheckpoint(): Promise<Checkpoint>;
  /** Paths of the weight files, in a fixed order. */
  weightFiles(): Promise<string[]>;
}

/** Parses one of the files as JSON; undefined if the model lacks it. @throws RmError CONFIG_INVALID. */
export async function jsonOf(source: ModelSource, file: string): Promise<unknown> {
  const text = await source.text(file);
  return text === undefined ? undefined : parseJson(text, source.nameOf(file));
}

/** Like jsonOf, but a missing file is CHECKPOINT_MISSING. */
export async function requiredJsonOf(source: ModelSource, file: string): Promise<unknown> {
  return parseJson(await requiredTextOf(source, file), source.nameOf(file));
}

/** Reads one of the files. @throws RmError CHECKPOINT_MISSING if the model lacks it, CONFIG_INVALID. */
export async function requiredTextOf(source: ModelSource, file: string): Promise<string> {
  const text = await source.text(file);
  if (text !== undefined) return text;
  throw await source.missing(file);
}
