import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { isGgufPath } from '../files/ggufPath.js';
import { hubCacheFolder, repoFolder, repoOfSnapshot } from './cacheFolder.js';
import { findSnapshot, type Snapshot } from './findSnapshot.js';
import { type HubReference, hubName, parseHubReference } from './reference.js';

/** Where the files of a model are. */
export interface ModelLocation {
  /** A folder or a single file; for what is neither there nor the name of a model, the path as it was given. */
  readonly path: string;
  /** Set where the model was named, not its path. */
  readonly snapshot?: Snapshot & { readonly reference: HubReference };
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

/** What names have meant so far in this process. */
const located = new Map<string, Promise<ModelLocation>>();

/** Forgets what names have meant: the cache has changed. */
export const forgetLocations = (): void => located.clear();

async function find(given: string, reference: HubReference): Promise<ModelLocation> {
  const bare = !given.includes('/') && !given.includes('@');
  // A word alone is a mistyped path more often than one of the few models without an owner.
  if (bare && !(await exists(repoFolder(hubCacheFolder(), reference.repo)))) return { path: given };
  const snapshot = await findSnapshot(reference);
  return { path: snapshot.folder, snapshot: { ...snapshot, reference } };
}

/**
 * Where the model is that a path or a name ("org/name", "org/name@revision") stands for. What is there under that path
 * wins over the Hugging Face cache, as in transformers. Nothing is downloaded. A name keeps its meaning while the
 * process runs, so that a branch that moves meanwhile does not mix two commits in one run.
 *
 * @throws RmError as findSnapshot does, for a name.
 */
export async function locateModel(given: string): Promise<ModelLocation> {
  const reference = await namedModel(given);
  if (!reference) return { path: given };
  const key = `${hubCacheFolder()}\n${given}`;
  const known = located.get(key);
  if (known) return known;
  const found = find(given, reference);
  located.set(key, found);
  found.catch(() => located.delete(key));
  return found;
}

/** The reference that a text is, where nothing lies under a path of the same spelling. */
export async function namedModel(given: string): Promise<HubReference | undefined> {
  // A mistyped path of a file, not the name of a model.
  const reference = isGgufPath(given) ? undefined : parseHubReference(given);
  return reference && !(await exists(given)) ? reference : undefined;
}

/** The reference that a local path of the same spelling hides from sight, where the cache has such a model. */
export async function hiddenReference(given: string): Promise<HubReference | undefined> {
  const reference = parseHubReference(given);
  const hidden =
    reference && (await exists(given)) && (await exists(repoFolder(hubCacheFolder(), reference.repo)));
  return hidden ? reference : undefined;
}

/**
 * What to call a model in what is published: "org/name" of one in the cache (`revision`: with the one asked for), else
 * the last part of its path.
 */
export function modelName(given: string, { revision = false } = {}): string {
  const reference = parseHubReference(given);
  const cached = reference && existsSync(repoFolder(hubCacheFolder(), reference.repo));
  if (cached && !existsSync(given)) return revision ? hubName(reference) : reference.repo;
  return repoOfSnapshot(resolve(given)) ?? basename(resolve(given));
}
