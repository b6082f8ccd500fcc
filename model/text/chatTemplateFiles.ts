import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RmError } from '../../engine/index.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { jsonOf } from '../checkpoint/modelSource.js';
import { isRecord } from '../files/jsonFile.js';

/** A chat template, and the file that holds it. */
export interface NamedTemplate {
  readonly path: string;
  readonly text: string;
}

/** A model's chat templates by name; the ordinary one is "default". */
export type NamedTemplates = ReadonlyMap<string, NamedTemplate>;

const FOLDER = 'additional_chat_templates';
const ENDING = '.jinja';

/** Names of the templates in the folder additional_chat_templates. */
async function additionalNames({ folder }: ModelSource): Promise<string[]> {
  const files = folder === null ? [] : await readdir(join(folder, FOLDER)).catch(() => []);
  return files
    .filter(name => name.endsWith(ENDING))
    .map(name => name.slice(0, -ENDING.length))
    .sort();
}

/** "chat_template" in tokenizer_config.json: a string, or a list of {name, template}. */
async function templatesOfSettings(model: ModelSource): Promise<NamedTemplates> {
  const path = model.nameOf('tokenizer_config.json');
  const settings = await jsonOf(model, 'tokenizer_config.json');
  const value = isRecord(settings) ? (settings.chat_template ?? undefined) : undefined;
  if (value === undefined) return new Map();
  const named = Array.isArray(value) ? value : [{ name: 'default', template: value }];
  return new Map(
    named.map(entry => {
      const { name, template } = isRecord(entry) ? entry : {};
      if (typeof name === 'string' && typeof template === 'string') return [name, { path, text: template }];
      throw new RmError(
        'CONFIG_INVALID',
        `${path}: "chat_template" is neither a text nor a list of {"name", "template"}`,
        'Download the file again, or save the template as chat_template.jinja beside it.',
      );
    }),
  );
}

/**
 * Reads a model's chat templates from where transformers looks for them: chat_template.jinja and the folder
 * additional_chat_templates, and without either tokenizer_config.json.
 *
 * @throws RmError CONFIG_INVALID.
 */
export async function readTemplates(model: ModelSource): Promise<NamedTemplates> {
  const templates = new Map<string, NamedTemplate>();
  const files: [name: string, file: string][] = [
    ['default', 'chat_template.jinja'],
    ...(await additionalNames(model)).map((name): [string, string] => [name, `${FOLDER}/${name}${ENDING}`]),
  ];
  for (const [name, file] of files) {
    const text = await model.text(file);
    if (text !== undefined) templates.set(name, { path: model.nameOf(file), text });
  }
  return templates.size > 0 ? templates : templatesOfSettings(model);
}
