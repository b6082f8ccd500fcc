import { homedir } from 'node:os';
import { join } from 'node:path';

type Environment = Readonly<Record<string, string | undefined>>;

/** Expands a leading ~ like Python's expanduser, which huggingface_hub applies to all of these variables. */
const expanded = (path: string): string => (/^~(?=$|[\\/])/.test(path) ? homedir() + path.slice(1) : path);

/** Hugging Face's folder: HF_HOME, else XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface (on Windows too). */
export function huggingFaceHome(env: Environment = process.env): string {
  if (env.HF_HOME) return expanded(env.HF_HOME);
  return join(env.XDG_CACHE_HOME ? expanded(env.XDG_CACHE_HOME) : join(homedir(), '.cache'), 'huggingface');
}

/** huggingface_hub's download folder: HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE (older name), else HF_HOME/hub. */
export function hubCacheFolder(env: Environment = process.env): string {
  const folder = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  return folder ? expanded(folder) : join(huggingFaceHome(env), 'hub');
}

/** A repository's folder in the cache, with refs/, snapshots/ and blobs/. */
export const repoFolder = (cache: string, repo: string, kind: 'model' | 'dataset' = 'model'): string =>
  join(cache, `${kind}s--${repo.replace('/', '--')}`);

const snapshotPath = /[\\/]models--([^\\/]+)[\\/]snapshots[\\/]([^\\/]+)[\\/]*$/;

/** "org/name" for the path of a snapshot folder in a cache; undefined for any other path. */
export function repoOfSnapshot(path: string): string | undefined {
  return snapshotPath.exec(path)?.[1]?.replace('--', '/');
}
