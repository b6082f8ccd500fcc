import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RmError, reasonOf } from '../../engine/index.js';
import { isRecord, readJsonFileIfPresent } from '../files/jsonFile.js';
import { hubCacheFolder, repoFolder } from './cacheFolder.js';
import { isModelFile } from './neededFiles.js';
import { downloadCommand, type HubReference, hubName } from './reference.js';

/** A complete model in the Hugging Face cache. */
export interface Snapshot {
  readonly folder: string;
  /** The commit's hash. */
  readonly commit: string;
}

/** Largest ref file to read: more than any commit hash needs. */
const MOST_REF_BYTES = 256;

const missing = (reference: HubReference, problem: string, fix?: string): RmError =>
  new RmError(
    'CHECKPOINT_MISSING',
    `${hubName(reference)}: ${problem}`,
    fix ??
      `Run: ${downloadCommand(reference)}   (or use \`download\`, which needs no Python), or give a folder.`,
  );

const damaged = (reference: HubReference, problem: string): RmError =>
  new RmError(
    'CHECKPOINT_CORRUPT',
    `${hubName(reference)}: ${problem}`,
    `Remove that file or folder, then run: ${downloadCommand(reference)}`,
  );

const problemOf = (error: unknown): string => {
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ELOOP') return 'is a symbolic link to itself';
  if (code === 'ENOENT') return 'is a broken symbolic link';
  return `cannot be read: ${reasonOf(error)}`;
};

const isMissing = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

/** The commit of a branch or tag in this cache; undefined if the cache does not know it. */
async function commitOfRef(reference: HubReference, folder: string): Promise<string | undefined> {
  const path = join(folder, 'refs', ...reference.revision.split('/'));
  try {
    const stats = await stat(path);
    // The path is a folder if the revision is the first part of another ref, such as "refs" of "refs/pr/1".
    if (stats.isDirectory()) return undefined;
    if (!stats.isFile() || stats.size > MOST_REF_BYTES) throw damaged(reference, `${path} names no commit`);
    const file = await open(path);
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(MOST_REF_BYTES));
      const text = buffer.toString('utf8', 0, bytesRead).trim();
      if (/^\w[\w-]*$/.test(text)) return text;
      throw damaged(reference, `${path} names no commit: it reads ${JSON.stringify(text.slice(0, 100))}`);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof RmError) throw error;
    if (isMissing(error)) return undefined;
    throw damaged(reference, `${path} ${problemOf(error)}`);
  }
}

/** Lists a folder; empty if it does not exist. */
async function namesIn(reference: HubReference, folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    const code = (error as NodeJS.ErrnoException).code;
    throw damaged(reference, `${folder} ${code === 'ENOTDIR' ? 'is not a folder' : problemOf(error)}`);
  }
}

/** Resolves the revision: a branch, a tag, a hash or the beginning of a hash. */
async function commitOf(reference: HubReference, folder: string): Promise<string> {
  const { repo, revision } = reference;
  const snapshots = await namesIn(reference, join(folder, 'snapshots'));
  const named = await commitOfRef(reference, folder);
  if (named !== undefined) {
    if (snapshots.includes(named)) return named;
    throw missing(reference, `"${revision}" is commit ${named}, but ${folder} has no snapshot of it`);
  }
  if (snapshots.includes(revision)) return revision;
  const beginning = /^[0-9a-f]{4,39}$/.test(revision);
  const matches = beginning ? snapshots.filter(commit => commit.startsWith(revision)) : [];
  if (matches.length === 1) return matches[0]!;
  if (matches.length > 1) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `${hubName(reference)}: several commits begin like this: ${matches.join(', ')}`,
      'Give more digits of the one you mean.',
    );
  }
  if (snapshots.length === 0) throw missing(reference, `${folder} has no snapshot`);
  const available = [...(await namesIn(reference, join(folder, 'refs'))), ...snapshots];
  throw missing(
    reference,
    `the cache has no revision "${revision}" of it, only ${available.join(', ')}`,
    `Run: ${downloadCommand(reference)}   (or use \`download\`), or use a cached revision: ${repo}@${available[0]}`,
  );
}

/** Tells whether unfinished files of a stopped download lie beside the finished ones. */
async function stoppedDownload(folder: string): Promise<string> {
  const blobs = await readdir(join(folder, 'blobs')).catch(() => []);
  return blobs.some(name => name.endsWith('.incomplete')) ? '; its download was stopped' : '';
}

/** Shards named by the index. Whoever reads the weights reports errors in the index itself. */
async function shardsOf(index: string): Promise<string[]> {
  const json = await readJsonFileIfPresent(index).catch(() => undefined);
  const map = isRecord(json) ? json.weight_map : undefined;
  const names = isRecord(map) ? Object.values(map) : [];
  return [...new Set(names.filter((name): name is string => typeof name === 'string'))];
}

async function checkWhole(reference: HubReference, repo: string, folder: string): Promise<void> {
  const names = await namesIn(reference, folder);
  const stopped = await stoppedDownload(repo);
  if (names.length === 0) throw missing(reference, `${folder} is empty${stopped}`);
  for (const file of names.filter(isModelFile)) {
    const path = join(folder, file);
    // Reading something other than a file, such as a pipe, might never end.
    const isFile = await stat(path).then(
      stats => stats.isFile(),
      error => {
        throw (isMissing(error) ? missing : damaged)(reference, `${path} ${problemOf(error)}${stopped}`);
      },
    );
    if (!isFile) throw damaged(reference, `${path} is not a file`);
  }
  // A GGUF file contains its own configuration.
  if (names.some(file => file.toLowerCase().endsWith('.gguf'))) return;
  if (!names.includes('config.json')) throw missing(reference, `${folder} has no config.json${stopped}`);
  if (names.includes('model.safetensors')) return;
  const index = 'model.safetensors.index.json';
  if (!names.includes(index)) {
    const other = names.find(file => /\.(bin|pt|pth|h5|msgpack|onnx)$/.test(file));
    const problem = other ? `only ${other}` : 'no weights';
    const rest = stopped || (other ? '' : ', only its configuration');
    throw missing(reference, `${folder} has ${problem}, not model.safetensors or its index${rest}`);
  }
  const absent = (await shardsOf(join(folder, index))).filter(shard => !names.includes(shard));
  if (absent.length === 0) return;
  const shown = absent.slice(0, 3).join(', ') + (absent.length > 3 ? ', ...' : '');
  throw missing(
    reference,
    `${folder} lacks ${absent.length} of the shards that ${index} names (${shown})${stopped}`,
  );
}

/**
 * Finds a model in huggingface_hub's cache without network access. Accepts symbolic links into blobs/ and plain copies
 * (Windows). Layout: https://huggingface.co/docs/hub/local-cache.
 *
 * @throws RmError CHECKPOINT_MISSING with the command that downloads it, CHECKPOINT_CORRUPT naming the damaged file,
 *   INVALID_ARGUMENT if several commits begin with the revision.
 */
export async function findSnapshot(
  reference: HubReference,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<Snapshot> {
  const cache = hubCacheFolder(env);
  const repo = repoFolder(cache, reference.repo);
  try {
    await stat(repo);
  } catch (error) {
    if (!isMissing(error)) throw damaged(reference, `${repo} ${problemOf(error)}`);
    throw missing(reference, `is neither a folder here nor a model in the Hugging Face cache (${cache})`);
  }
  const commit = await commitOf(reference, repo);
  const folder = join(repo, 'snapshots', commit);
  await checkWhole(reference, repo, folder);
  return { folder, commit };
}
