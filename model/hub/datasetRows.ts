import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RmError } from '../../engine/index.js';
import { hubCacheFolder, repoFolder } from './cacheFolder.js';
import { parseHubReference } from './reference.js';
import { type DownloadOptions, downloadFiles } from './repositoryDownload.js';

/** Rows of a data set on the Hugging Face hub. */
export interface DatasetSplit {
  /** "org/name". */
  readonly repo: string;
  /** The configuration, "default" where the data set has only one. */
  readonly config: string;
  readonly split: string;
}

/** The branch in which the hub keeps every data set as Parquet, as CONFIG/SPLIT/0000.parquet and on. */
const PARQUET = 'refs/convert/parquet';

const part = /^[\w][\w.-]*$/;

const referenceTo = ({ repo, config, split }: DatasetSplit) => {
  const reference = parseHubReference(repo);
  if (reference && part.test(config) && part.test(split)) {
    return { ...reference, revision: PARQUET, pinned: true };
  }
  throw new RmError(
    'CONFIG_INVALID',
    `${JSON.stringify(`${repo}, ${config}, ${split}`)} names no rows of a data set`,
    'Give dataset_path as org/name, dataset_name and the split as plain names.',
  );
};

/**
 * The file of the rows in the cache; undefined where they have not been downloaded.
 *
 * @throws RmError CONFIG_INVALID for what names no data set.
 */
export async function findRows(rows: DatasetSplit): Promise<string | undefined> {
  const folder = repoFolder(hubCacheFolder(), referenceTo(rows).repo, 'dataset');
  const commit = (await readFile(join(folder, 'refs', PARQUET), 'utf8').catch(() => '')).trim();
  if (!/^[0-9a-f]{40}$/.test(commit)) return undefined;
  const path = join(folder, 'snapshots', commit, rows.config, rows.split, '0000.parquet');
  return (await stat(path).catch(() => undefined))?.isFile() ? path : undefined;
}

/**
 * Downloads the rows into huggingface_hub's cache, where `findRows` finds them without a network.
 *
 * @returns their file.
 * @throws RmError as downloadFiles; DOWNLOAD_FAILED where the data set has no such rows, or has them in several files.
 */
export async function downloadRows(rows: DatasetSplit, options: DownloadOptions = {}): Promise<string> {
  const reference = referenceTo(rows);
  const within = `${rows.config}/${rows.split}/`;
  const choose = (paths: readonly string[]): string[] => {
    const found = paths.filter(
      path => path.startsWith(within) && /^\d{4}\.parquet$/.test(path.slice(within.length)),
    );
    if (found.length === 1) return found;
    throw new RmError(
      'DOWNLOAD_FAILED',
      `${rows.repo}: ${found.length === 0 ? `has no rows ${rows.config}, ${rows.split}` : `its rows lie in ${found.length} files`}`,
      'Give a file of rows instead: TASK=rows.parquet.',
    );
  };
  const { folder, files } = await downloadFiles({ reference, kind: 'dataset', choose }, options);
  return join(folder, files[0]!);
}
