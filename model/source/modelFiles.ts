import type { Checkpoint } from '../checkpoint/checkpoint.js';

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
