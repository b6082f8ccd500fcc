import { isRecord } from '../../engine/index.js';
import { jsonOf } from '../checkpoint/modelSource.js';
import { parseYaml } from '../files/yamlFile.js';
import { modelName } from '../hub/locate.js';
import { isHubName } from '../hub/reference.js';
import { openModelSource } from './openModelSource.js';

/** What a model's card and its place say of where it comes from, as the Hugging Face hub names the fields. */
export interface ModelOrigin {
  /** The model as "org/name" on the hub. */
  readonly id?: string;
  /** Fields of its card that hold for models made from it too. */
  readonly inherited: Readonly<Record<string, string | readonly string[]>>;
}

/** Fields of a card that a model hands down. */
const inheritedFields = ['license', 'license_name', 'license_link', 'language', 'pipeline_tag'];

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';

/** The metadata at the beginning of a card; empty where there are none, or they cannot be read. */
async function cardMetadata(card: string | undefined, path: string): Promise<Record<string, unknown>> {
  const [, metadata] = /^\s*---\r?\n([\s\S]*?)\r?\n---\s*(?:\r?\n|$)/.exec(card ?? '') ?? [];
  return metadata === undefined ? {} : await parseYaml(metadata, path).catch(() => ({}));
}

/** The one model that a card names as its base. */
function baseOf(metadata: Readonly<Record<string, unknown>>): unknown {
  const base = metadata.base_model;
  return Array.isArray(base) && base.length === 1 ? base[0] : base;
}

/**
 * Where a model comes from. Its name on the hub is that under which it was opened or lies in the cache, else the one that
 * transformers left in config.json, else what its card names as its base.
 */
export async function modelOrigin(path: string): Promise<ModelOrigin> {
  const source = await openModelSource(path);
  const card = await source.text('README.md').catch(() => undefined);
  const metadata = await cardMetadata(card, source.nameOf('README.md'));
  const config = await jsonOf(source, 'config.json').catch(() => undefined);
  const written = isRecord(config) ? config._name_or_path : undefined;
  const id = [modelName(path), written, baseOf(metadata)].find(isHubName);
  const inherited = inheritedFields.flatMap(field => {
    const value = metadata[field];
    return isText(value) || (Array.isArray(value) && value.length > 0 && value.every(isText))
      ? [[field, value] as const]
      : [];
  });
  return { ...(id !== undefined && { id }), inherited: Object.fromEntries(inherited) };
}
