import { RmError } from '../../engine/index.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { GgufCheckpoint } from './checkpoint.js';
import { configOfGguf } from './config.js';
import { contentsOf, type GgufFile, openGgufFile, withGgufFile } from './file.js';
import { chatTemplateOfGguf, tokenizerOfGguf } from './tokenizerDefinition.js';

/** The files of a model folder that are made from a GGUF file's metadata. */
const texts: Readonly<Record<string, (file: GgufFile) => unknown>> = {
  'config.json': file => configOfGguf(contentsOf(file)),
  'tokenizer.json': file => tokenizerOfGguf(file).definition,
  'tokenizer_config.json': file => tokenizerOfGguf(file).settings,
  'generation_config.json': file => tokenizerOfGguf(file).generation,
  'chat_template.jinja': chatTemplateOfGguf,
};

/** Names of those files. */
export const ggufTexts: readonly string[] = Object.keys(texts);

/** A model in a GGUF file; config.json and the tokenizer's files are made from its metadata. */
export class GgufSource implements ModelSource {
  readonly folder = null;

  constructor(readonly path: string) {}

  nameOf(file: string): string {
    return `${this.path} (${file} of its metadata)`;
  }

  async missing(file: string): Promise<RmError> {
    return new RmError(
      'CHECKPOINT_MISSING',
      `${this.path}: has no metadata for ${file}`,
      "Give the model's folder.",
    );
  }

  async text(file: string): Promise<string | undefined> {
    const make = Object.hasOwn(texts, file) ? texts[file] : undefined;
    if (!make) return undefined;
    const value = await withGgufFile(this.path, async opened => make(opened));
    return value === undefined || typeof value === 'string' ? value : JSON.stringify(value, null, 2);
  }

  async openCheckpoint(): Promise<Checkpoint> {
    const file = await openGgufFile(this.path);
    try {
      return new GgufCheckpoint(file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async weightFiles(): Promise<string[]> {
    return [this.path];
  }
}
