import { homedir } from 'node:os';
import { join } from 'node:path';

type Environment = Readonly<Record<string, string | undefined>>;

/** A leading ~ as Python's expanduser reads it, which huggingface_hub applies to all of these variables. */
const expanded = (path: string): string => (/^~(?=$|[\\/])/.test(path) ? homedir() + path.slice(1) : path);

/** Hugging Face's own folder: HF_HOME, else XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface, on Windows too. */
export function huggingFaceHome(env: Environment = process.env): string {
  if (env.HF_HOME) return expanded(env.HF_HOME);
  return join(env.XDG_CACHE_HOME ? expanded(env.XDG_CACHE_HOME) : join(homedir(), '.cache'), 'huggingface');
}

/** Where huggingface_hub keeps what it has downloaded: HF_HUB_CACHE, else (its older name) HUGGINGFACE_HUB_CACHE, else HF_HOME/hub. */
export function hubCacheFolder(env: Environment = process.env): string {
  const given = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE;
  return given ? expanded(given) : join(huggingFaceHome(env), 'hub');
}

/** The folder of one model in the cache: refs/, snapshots/ and blobs/ are in it. */
export const repoFolder = (cache: string, repo: string): string =>
  join(cache, `models--${repo.replace('/', '--')}`);

const snapshotPath = /[\\/]models--([^\\/]+)[\\/]snapshots[\\/]([^\\/]+)[\\/]*$/;

/** "org/name" of a snapshot's folder in such a cache; undefined for any other path. */
export function repoOfSnapshot(path: string): string | undefined {
  return snapshotPath.exec(path)?.[1]?.replace('--', '/');
}
