import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, lstat, mkdir, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { type Progress, RmError, reasonOf } from '../../engine/index.js';
import { outputError } from '../files/outputError.js';
import { downloadBlob } from './blob.js';
import { hubCacheFolder, repoFolder } from './cacheFolder.js';
import { type HubClient, loadHubClient } from './client.js';
import { type HubConnection, hubConnection } from './connection.js';
import { openContent } from './fileContent.js';
import { neededEntries, type RemoteEntry } from './listedFiles.js';
import { type HubReference, hubName } from './reference.js';
import { hideSecrets } from './secrets.js';

/** What a repository on the hub holds, and in words. */
export type RepositoryKind = 'model' | 'dataset';
const nouns: Readonly<Record<RepositoryKind, string>> = { model: 'model', dataset: 'data set' };

/** Files of one repository. */
export interface WantedFiles {
  readonly reference: HubReference;
  readonly kind: RepositoryKind;
  /** The files to download among all paths. @throws RmError where the needed ones are not there. */
  choose(paths: readonly string[]): string[];
}

/** A snapshot in the cache, with the files that were wanted of it. */
export interface DownloadedFiles {
  readonly folder: string;
  /** The commit's hash. */
  readonly commit: string;
  readonly files: readonly string[];
}

/** Settings of a download. */
export interface DownloadOptions {
  onProgress?: Progress;
  /** Stops the download; the next call resumes it. */
  signal?: AbortSignal;
}

/** Explains an error answer of the hub. */
function refused({ reference, kind }: WantedFiles, { hubUrl }: HubConnection, error: unknown): RmError {
  const status = (error as { statusCode?: number }).statusCode;
  const name = hubName(reference);
  const make = (problem: string, fix: string) =>
    new RmError('DOWNLOAD_FAILED', `${name}: ${problem}`, fix, { cause: error });
  if (status === 401 || status === 403) {
    return make(
      `${hubUrl} denies access (${status}): the ${nouns[kind]} is private, requires accepting its terms, or does not exist`,
      `Check the name, accept the terms at ${hubUrl}/${kind === 'model' ? '' : 'datasets/'}${reference.repo}, and set HF_TOKEN to a token that may read it.`,
    );
  }
  if (status === 404) {
    return make(
      `${hubUrl} has no such ${nouns[kind]} or revision`,
      `Check name and revision; for a private ${nouns[kind]}, set HF_TOKEN.`,
    );
  }
  const reason = reasonOf((error as Error).cause ?? error);
  return make(
    `${hubUrl} ${status === undefined ? `cannot be reached: ${reason}` : `answers with status ${status}`}`,
    'Check the network and HF_ENDPOINT, then run again: it resumes where it stopped.',
  );
}

/** Downloads files of one repository into the cache. */
class Download {
  readonly folder: string;
  #done = 0;
  #total = 0;

  constructor(
    private readonly wanted: WantedFiles,
    private readonly client: HubClient,
    private readonly connection: HubConnection,
    private readonly options: DownloadOptions,
  ) {
    this.folder = repoFolder(hubCacheFolder(), wanted.reference.repo, wanted.kind);
  }

  async run(): Promise<DownloadedFiles> {
    const commit = await this.#request(async () => this.#commit());
    const files = await this.#request(async () => this.#list(commit));
    this.#total = files.reduce((sum, { size }) => sum + size, 0);
    // Small files first: a mistake shows before the weights are downloaded.
    for (const file of files.sort((a, b) => a.size - b.size)) await this.#fetch(file, commit);
    const { revision } = this.wanted.reference;
    if (!commit.startsWith(revision)) await this.#writeRef(revision, commit);
    return { folder: join(this.folder, 'snapshots', commit), commit, files: files.map(({ path }) => path) };
  }

  async #request<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      this.options.signal?.throwIfAborted();
      throw error instanceof RmError ? error : refused(this.wanted, this.connection, error);
    }
  }

  async #commit(): Promise<string> {
    const { reference, kind } = this.wanted;
    const { repo, revision } = reference;
    const asked = { ...this.connection, name: repo, revision, additionalFields: ['sha'] };
    const { sha } = await (kind === 'model' ? this.client.modelInfo(asked) : this.client.datasetInfo(asked));
    if (sha !== undefined && /^[0-9a-f]{40}$/.test(sha)) return sha;
    throw new RmError(
      'DOWNLOAD_FAILED',
      `${hubName(this.wanted.reference)}: ${this.connection.hubUrl} names no commit for it`,
      'Check HF_ENDPOINT: the server must offer the API of huggingface.co.',
    );
  }

  async #list(commit: string): Promise<RemoteEntry[]> {
    const { reference, kind, choose } = this.wanted;
    const name = hubName(reference);
    const fail = (problem: string) =>
      new RmError(
        'DOWNLOAD_FAILED',
        `${name}: ${problem}`,
        `Check HF_ENDPOINT, or choose another ${nouns[kind]}.`,
      );
    const repo = { type: kind, name: reference.repo };
    const listed = this.client.listFiles({ ...this.connection, repo, revision: commit, recursive: true });
    return await neededEntries(listed, choose, fail);
  }

  async #fetch({ path, size, etag, hash }: RemoteEntry, commit: string): Promise<void> {
    const blob = join(this.folder, 'blobs', etag);
    const pointer = join(this.folder, 'snapshots', commit, path);
    const advance = (bytes: number) => {
      this.#done += bytes;
      const { onProgress } = this.options;
      onProgress?.({ phase: 'download', done: this.#done, total: this.#total, unit: 'bytes' });
    };
    const sizeOf = async (file: string) => (await stat(file).catch(() => undefined))?.size;
    if ((await sizeOf(pointer)) === size) {
      advance(size);
      return;
    }
    await this.#makeFolder(dirname(blob));
    if ((await sizeOf(blob)) === size) advance(size);
    else {
      const { reference, kind } = this.wanted;
      const place = `${kind === 'model' ? '' : 'datasets/'}${reference.repo}`;
      const url = `${this.connection.hubUrl}/${place}/resolve/${commit}/${encodeURI(path)}`;
      const name = `${hubName(reference)}, ${path}`;
      const read = (start: number) => openContent(this.connection, url, name, start, size);
      await this.#request(() => downloadBlob({ name, size, hash, read }, blob, advance, this.options.signal));
    }
    await this.#point(pointer, blob);
  }

  /** Adds the file to the snapshot: a link into blobs/, or a copy if links are not allowed (Windows). */
  async #point(pointer: string, blob: string): Promise<void> {
    await this.#makeFolder(dirname(pointer));
    // A name that nothing can have been put at beforehand.
    const temporary = `${pointer}.${randomUUID()}.incomplete`;
    try {
      // Replace a broken link or other content rather than writing through it.
      if (await lstat(pointer).catch(() => undefined)) await rm(pointer, { force: true });
      await symlink(relative(dirname(pointer), blob), temporary).catch(() =>
        copyFile(blob, temporary, constants.COPYFILE_EXCL),
      );
      await rename(temporary, pointer);
    } catch (error) {
      await rm(temporary, { force: true });
      throw outputError(error, pointer);
    }
  }

  async #writeRef(revision: string, commit: string): Promise<void> {
    const path = join(this.folder, 'refs', ...revision.split('/'));
    await this.#makeFolder(dirname(path));
    const temporary = `${path}.${randomUUID()}.incomplete`;
    try {
      await writeFile(temporary, commit, { flag: 'wx' });
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw outputError(error, path);
    }
  }

  async #makeFolder(path: string): Promise<void> {
    await mkdir(path, { recursive: true }).catch(error => Promise.reject(outputError(error, path)));
  }
}

/**
 * Downloads files of a repository on the Hugging Face hub into huggingface_hub's cache. Resumes a stopped download; writes
 * the revision's ref once all files are complete. Respects HF_ENDPOINT and HF_TOKEN. Needs the package @huggingface/hub.
 *
 * @throws RmError DOWNLOAD_FAILED, OUTPUT_FAILED; the reason of `signal` once it is aborted.
 */
export async function downloadFiles(wanted: WantedFiles, options: DownloadOptions): Promise<DownloadedFiles> {
  const connection = await hubConnection(options.signal);
  const download = new Download(wanted, await loadHubClient(), connection, options);
  try {
    return await download.run();
  } catch (error) {
    // A hub may send back what it was sent.
    hideSecrets(error, connection.hide);
    throw error;
  }
}
