import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { checkArguments } from '../../engine/index.js';
import { aPath } from '../arguments/forms.js';
import { isGgufPath } from '../files/ggufPath.js';
import { hubCacheFolder, repoFolder, repoOfSnapshot } from './cacheFolder.js';
import { findSnapshot, type Snapshot } from './findSnapshot.js';
import { type HubReference, hubName, parseHubReference } from './reference.js';

/** Where the files of a model are. */
export interface ModelLocation {
  /** A folder or a single file; the caller's path unchanged if nothing was found. */
  readonly path: string;
  /** Set if the model was given by name. */
  readonly snapshot?: Snapshot & { readonly reference: HubReference };
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** Names resolved so far in this process. */
const resolved = new Map<string, Promise<ModelLocation>>();

/** Forgets resolved names, because the cache has changed. */
export const forgetLocations = (): void => resolved.clear();

async function resolveName(name: string, reference: HubReference): Promise<ModelLocation> {
  const bare = !name.includes('/') && !name.includes('@');
  // A single word is more often a mistyped path than one of the few models without an owner.
  if (bare && !(await exists(repoFolder(hubCacheFolder(), reference.repo)))) return { path: name };
  const snapshot = await findSnapshot(reference);
  return { path: snapshot.folder, snapshot: { ...snapshot, reference } };
}

/**
 * Resolves a path or a name ("org/name", "org/name@revision") to a model's files, without downloading. As in transformers,
 * an existing path wins over the Hugging Face cache. A name keeps its meaning while the process runs, so that a branch that
 * moves does not mix two commits in one run.
 *
 * @throws RmError for a name, what findSnapshot throws.
 */
export async function locateModel(pathOrName: string): Promise<ModelLocation> {
  checkArguments('locateModel', { pathOrName }, { pathOrName: aPath });
  const reference = await namedModel(pathOrName);
  if (!reference) return { path: pathOrName };
  const key = `${hubCacheFolder()}\n${pathOrName}`;
  const earlier = resolved.get(key);
  if (earlier) return earlier;
  const location = resolveName(pathOrName, reference);
  resolved.set(key, location);
  location.catch(() => resolved.delete(key));
  return location;
}

/** Parses a model name; undefined if it can only be a path, or if a path of that spelling exists. */
export async function namedModel(pathOrName: string): Promise<HubReference | undefined> {
  // A name ending in .gguf is a mistyped path.
  const reference = isGgufPath(pathOrName) ? undefined : parseHubReference(pathOrName);
  return reference && !(await exists(pathOrName)) ? reference : undefined;
}

/** The cached model that an existing path of the same spelling hides; undefined if there is none. */
export async function hiddenReference(path: string): Promise<HubReference | undefined> {
  const reference = parseHubReference(path);
  const hidden =
    reference && (await exists(path)) && (await exists(repoFolder(hubCacheFolder(), reference.repo)));
  return hidden ? reference : undefined;
}

/**
 * The name of a model in published output: "org/name" for a model in the cache (with its revision if `revision` is set),
 * else the last part of its path.
 */
export function modelName(pathOrName: string, { revision = false } = {}): string {
  const reference = parseHubReference(pathOrName);
  const cached = reference && existsSync(repoFolder(hubCacheFolder(), reference.repo));
  if (cached && !existsSync(pathOrName)) return revision ? hubName(reference) : reference.repo;
  return repoOfSnapshot(resolve(pathOrName)) ?? basename(resolve(pathOrName));
}
