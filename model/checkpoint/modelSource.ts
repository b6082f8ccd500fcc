import { RmError } from '../../engine/index.js';
import { parseJson } from '../files/jsonFile.js';
import type { Checkpoint } from './checkpoint.js';

/**
 * A model on disk, whatever its form: what the files of a Hugging Face model folder say (config.json, tokenizer.json,
 * chat_template.jinja ...) and its weights. All else reads models through this.
 */
export interface ModelSource {
  /** As it was given. */
  readonly path: string;
  /** The folder whose other files belong to the model; null where there is none. */
  readonly folder: string | null;
  /** What messages call one of the files. */
  nameOf(file: string): string;
  /** The text of one of the files; undefined where the model has none. Throws CONFIG_INVALID, CHECKPOINT_MISSING. */
  text(file: string): Promise<string | undefined>;
  /** Opens the weights. Throws CHECKPOINT_MISSING, CHECKPOINT_CORRUPT. */
  openCheckpoint(): Promise<Checkpoint>;
  /** Paths of the files that hold the weights, in a fixed order. */
  weightFiles(): Promise<string[]>;
}

/** The JSON value of one of the files, or undefined where the model has none. Throws CONFIG_INVALID. */
export async function jsonOf(source: ModelSource, file: string): Promise<unknown> {
  const text = await source.text(file);
  return text === undefined ? undefined : parseJson(text, source.nameOf(file));
}

/** Like jsonOf, but a missing file is CHECKPOINT_MISSING. */
export async function requiredJsonOf(source: ModelSource, file: string): Promise<unknown> {
  return parseJson(await requiredTextOf(source, file), source.nameOf(file));
}

/** The text of one of the files. Throws CHECKPOINT_MISSING where the model has none, CONFIG_INVALID. */
export async function requiredTextOf(source: ModelSource, file: string): Promise<string> {
  const text = await source.text(file);
  if (text !== undefined) return text;
  throw new RmError(
    'CHECKPOINT_MISSING',
    `${source.nameOf(file)} does not exist`,
    'Give the folder of a Hugging Face model: config.json, tokenizer.json and *.safetensors files.',
  );
}
