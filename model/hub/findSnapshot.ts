import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RmError } from '../../engine/index.js';
import { isRecord, readJsonFileIfPresent } from '../files/jsonFile.js';
import { hubCacheFolder, repoFolder } from './cacheFolder.js';
import { isModelFile } from './neededFiles.js';
import { downloadCommand, type HubReference, hubName } from './reference.js';

/** A whole model in the cache. */
export interface Snapshot {
  readonly folder: string;
  /** The commit's hash. */
  readonly commit: string;
}

/** Of a file that names a commit: more than any hash has. */
const MOST_REF_BYTES = 256;

const missing = (reference: HubReference, problem: string, fix?: string): RmError =>
  new RmError(
    'CHECKPOINT_MISSING',
    `${hubName(reference)}: ${problem}`,
    fix ??
      `Run: ${downloadCommand(reference)}   (or add --download, which does the same without Python), or give a folder.`,
  );

const damaged = (reference: HubReference, problem: string): RmError =>
  new RmError(
    'CHECKPOINT_CORRUPT',
    `${hubName(reference)}: ${problem}`,
    `Remove that file or folder, then run: ${downloadCommand(reference)}`,
  );

const reasonOf = (error: unknown): string => {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ELOOP') return 'is a symbolic link that leads back to itself';
  if (code === 'ENOENT') return 'is a symbolic link to nothing';
  return `cannot be read: ${message}`;
};

const isMissing = (error: unknown): boolean =>
  ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

/** The commit that a branch or tag stands for in this cache; undefined where the cache does not know the name. */
async function commitOfRef(reference: HubReference, folder: string): Promise<string | undefined> {
  const path = join(folder, 'refs', ...reference.revision.split('/'));
  try {
    const found = await stat(path);
    // "refs" is a folder where revision is "refs" or the first part of "refs/pr/1".
    if (found.isDirectory()) return undefined;
    if (!found.isFile() || found.size > MOST_REF_BYTES) throw damaged(reference, `${path} names no commit`);
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
    throw damaged(reference, `${path} ${reasonOf(error)}`);
  }
}

/** What a folder holds; nothing where it is not there. */
async function namesIn(reference: HubReference, folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    const code = (error as NodeJS.ErrnoException).code;
    throw damaged(reference, `${folder} ${code === 'ENOTDIR' ? 'is no folder' : reasonOf(error)}`);
  }
}

/** The commit asked for, by branch, tag, hash or the beginning of one. */
async function commitOf(reference: HubReference, folder: string): Promise<string> {
  const { repo, revision } = reference;
  const snapshots = await namesIn(reference, join(folder, 'snapshots'));
  const named = await commitOfRef(reference, folder);
  if (named !== undefined) {
    if (snapshots.includes(named)) return named;
    throw missing(reference, `"${revision}" is commit ${named}, of which ${folder} has no snapshot`);
  }
  if (snapshots.includes(revision)) return revision;
  const beginning = /^[0-9a-f]{4,39}$/.test(revision);
  const matches = beginning ? snapshots.filter(commit => commit.startsWith(revision)) : [];
  if (matches.length === 1) return matches[0]!;
  if (matches.length > 1) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `${hubName(reference)}: more than one commit begins so: ${matches.join(', ')}`,
      'Give more digits of the one you mean.',
    );
  }
  if (snapshots.length === 0) throw missing(reference, `${folder} has no snapshot`);
  const known = [...(await namesIn(reference, join(folder, 'refs'))), ...snapshots];
  throw missing(
    reference,
    `the cache has no revision "${revision}" of it, only ${known.join(', ')}`,
    `Run: ${downloadCommand(reference)}   (or add --download), or take one that is there: ${repo}@${known[0]}`,
  );
}

/** Files of a stopped download lie beside the finished ones. */
async function stoppedDownload(folder: string): Promise<string> {
  const blobs = await readdir(join(folder, 'blobs')).catch(() => []);
  return blobs.some(name => name.endsWith('.incomplete')) ? '; its download was stopped' : '';
}

/** Shards that the index names; what is wrong with the index itself is said by the one who reads the weights. */
async function shardsOf(index: string): Promise<string[]> {
  const found = await readJsonFileIfPresent(index).catch(() => undefined);
  const map = isRecord(found) ? found.weight_map : undefined;
  const names = isRecord(map) ? Object.values(map) : [];
  return [...new Set(names.filter((name): name is string => typeof name === 'string'))];
}

async function checkWhole(reference: HubReference, repo: string, folder: string): Promise<void> {
  const names = await namesIn(reference, folder);
  const stopped = await stoppedDownload(repo);
  if (names.length === 0) throw missing(reference, `${folder} is empty${stopped}`);
  for (const file of names.filter(isModelFile)) {
    const path = join(folder, file);
    // What is no file (a pipe, say) could be waited for without end.
    const isFile = await stat(path).then(
      found => found.isFile(),
      error => {
        throw (isMissing(error) ? missing : damaged)(reference, `${path} ${reasonOf(error)}${stopped}`);
      },
    );
    if (!isFile) throw damaged(reference, `${path} is not a file`);
  }
  // A model in one GGUF file has its description in that.
  if (names.some(file => file.toLowerCase().endsWith('.gguf'))) return;
  if (!names.includes('config.json')) throw missing(reference, `${folder} has no config.json${stopped}`);
  if (names.includes('model.safetensors')) return;
  const index = 'model.safetensors.index.json';
  if (!names.includes(index)) {
    const other = names.find(file => /\.(bin|pt|pth|h5|msgpack|onnx)$/.test(file));
    const found = other ? `only ${other}` : 'no weights';
    const kept = stopped || (other ? '' : ', only what describes it');
    throw missing(reference, `${folder} has ${found}, not model.safetensors or its index${kept}`);
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
 * Finds a model in the cache of huggingface_hub, without a network. Symbolic links into blobs/ and plain copies
 * (Windows) are the same to it. Layout: https://huggingface.co/docs/hub/local-cache.
 *
 * @throws RmError CHECKPOINT_MISSING with the command that downloads it, CHECKPOINT_CORRUPT naming what is damaged,
 *   INVALID_ARGUMENT where several commits begin with the revision.
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
    if (!isMissing(error)) throw damaged(reference, `${repo} ${reasonOf(error)}`);
    throw missing(reference, `is no folder here, and no model in the Hugging Face cache (${cache})`);
  }
  const commit = await commitOf(reference, repo);
  const folder = join(repo, 'snapshots', commit);
  await checkWhole(reference, repo, folder);
  return { folder, commit };
}
