import { renameSync } from 'node:fs';
import { copyFile, lstat, mkdir, readdir, realpath, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, extname, join, parse, relative, resolve, sep } from 'node:path';
import { RmError } from '../../engine/index.js';
import {
  addUnfinished,
  asidePath,
  forgetUnfinished,
  removeLeftovers,
  unfinishedPath,
  type Writer,
} from './unfinishedOutput.js';

const reasons: Readonly<Record<string, readonly [string, string]>> = {
  ENOSPC: ['the disk is full', 'Free some space, or choose another disk for the output.'],
  EDQUOT: ['the disk quota is used up', 'Free some space, or choose another disk for the output.'],
  EFBIG: [
    'the file is larger than the system allows',
    'Raise the file-size limit (ulimit -f) or write smaller shards.',
  ],
  EACCES: ['permission denied', 'Choose a place you may write to.'],
  EPERM: ['permission denied', 'Choose a place you may write to.'],
  EROFS: ['the file system is read-only', 'Choose a place you may write to.'],
  ENOTDIR: ['part of the path is a file', 'Choose another path.'],
  ENAMETOOLONG: ['the name is too long', 'Choose a shorter path.'],
};

/** Turns a failed write into OUTPUT_FAILED with a fix; returns an RmError unchanged. */
export function outputError(error: unknown, path: string): RmError {
  if (error instanceof RmError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const [reason, fix] = reasons[code ?? ''] ?? [message, 'Check the disk and the path, then run again.'];
  return new RmError('OUTPUT_FAILED', `${path}: cannot be written: ${reason}`, fix, { cause: error });
}

/** Writes a small file. @throws RmError OUTPUT_FAILED if the disk is full or the write fails. */
export const writeOutputFile = (path: string, data: string | Uint8Array): Promise<void> =>
  writeFile(path, data).catch(error => Promise.reject(outputError(error, path)));

/** Copies a file byte for byte. @throws RmError OUTPUT_FAILED if the disk is full or the write fails. */
export const copyOutputFile = (from: string, to: string): Promise<void> =>
  copyFile(from, to).catch(error => Promise.reject(outputError(error, to)));

export interface OutputFolderOptions {
  /** Replace an existing output. */
  readonly force?: boolean;
  /** Paths that must survive (the input model): an output that is or contains one of them is refused. */
  readonly protect?: readonly string[];
}

const contains = (folder: string, path: string): boolean => {
  const way = relative(folder, path);
  return way === '' || (way !== '..' && !way.startsWith(`..${sep}`) && parse(way).root === '');
};

/** Resolves symbolic links in the existing part of a path. */
async function realPathOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    const parent = dirname(path);
    return parent === path ? path : join(await realPathOf(parent), basename(path));
  }
}

type Existing = 'nothing' | 'emptyFolder' | 'folder' | 'file' | 'brokenLink';

async function whatIsAt(path: string): Promise<Existing> {
  try {
    const stats = await lstat(path);
    if (stats.isSymbolicLink()) return 'brokenLink';
    if (!stats.isDirectory()) return 'file';
    return (await readdir(path)).length === 0 ? 'emptyFolder' : 'folder';
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'nothing';
    throw outputError(error, path);
  }
}

/**
 * Checks before any work that the folder `out` may be written; returns its real path.
 *
 * @throws RmError OUTPUT_EXISTS if a file or a non-empty folder is in the way without `force`, and always if replacing the
 *   folder would remove an input (`protect`), the working directory or the home directory.
 */
export async function checkOutputFolder(out: string, options: OutputFolderOptions = {}): Promise<string> {
  const target = await realPathOf(resolve(out));
  const protectedPaths = [
    ...(options.protect ?? []),
    process.cwd(),
    process.env.HOME,
    process.env.USERPROFILE,
  ];
  await refuseProtected(out, target, protectedPaths, 'folder');
  const existing = await whatIsAt(target);
  if (existing === 'brokenLink') {
    throw new RmError(
      'OUTPUT_EXISTS',
      `${out}: is a broken symbolic link`,
      'Remove the link, or choose another path.',
    );
  }
  if ((existing === 'folder' || existing === 'file') && !options.force) throw inTheWay(out, existing);
  return target;
}

async function refuseProtected(
  out: string,
  target: string,
  protectedPaths: readonly (string | undefined)[],
  what: 'folder' | 'file',
): Promise<void> {
  for (const path of protectedPaths) {
    if (path && contains(target, await realPathOf(resolve(path)))) {
      throw new RmError(
        'OUTPUT_EXISTS',
        `${out}: cannot be the output ${what}, because it is or contains ${path}`,
        `Choose a separate ${what} for the result.`,
      );
    }
  }
}

const inTheWay = (out: string, existing: 'folder' | 'file'): RmError =>
  new RmError(
    'OUTPUT_EXISTS',
    existing === 'file' ? `${out}: a file is in the way` : `${out}: the folder exists and is not empty`,
    'Choose another path, or add `force` to replace it.',
  );

/** Renames `folder` to `target`; returns the path of the old content if `force` moved any aside. */
async function moveIntoPlace(folder: string, target: string, force: boolean): Promise<string | undefined> {
  const existing = await whatIsAt(target);
  if (existing === 'emptyFolder') await rmdir(target);
  if (existing === 'nothing' || existing === 'emptyFolder') {
    try {
      renameSync(folder, target);
      return undefined;
    } catch (error) {
      // Another process may have just created the target: look again.
      if ((await whatIsAt(target)) === 'nothing') throw error;
      return moveIntoPlace(folder, target, force);
    }
  }
  if (!force) throw inTheWay(target, existing === 'file' ? 'file' : 'folder');
  const aside = asidePath(folder);
  // Synchronously, so that no signal handler runs between the two renames.
  renameSync(target, aside);
  try {
    renameSync(folder, target);
  } catch (error) {
    renameSync(aside, target);
    throw error;
  }
  return aside;
}

async function removeOld(aside: string, out: string): Promise<void> {
  addUnfinished(aside);
  try {
    await rm(aside, { recursive: true, force: true });
  } catch (error) {
    const message = `${out}: is written, but its old content could not be removed from ${aside}`;
    throw new RmError('OUTPUT_FAILED', message, 'Remove that folder yourself.', { cause: error });
  } finally {
    forgetUnfinished(aside);
  }
}

/** Removes folders from `deepest` up to `top` as long as they are empty. */
async function removeEmptyParents(deepest: string, top: string): Promise<void> {
  for (let folder = deepest; contains(top, folder); folder = dirname(folder)) {
    const removed = await rmdir(folder).then(
      () => true,
      () => false,
    );
    if (!removed) return;
  }
}

/** Removes what killed processes left beside `target` and creates a new temporary folder there. */
async function beginFolder(target: string): Promise<string> {
  await removeLeftovers(target);
  const folder = unfinishedPath(target);
  addUnfinished(folder);
  await mkdir(folder);
  return folder;
}

/** Removes unfinished output for `out` left by the dead process `writer`. */
export const removeLeftBy = async (writer: Writer, out: string): Promise<void> =>
  removeLeftovers(await realPathOf(resolve(out)), writer);

/**
 * Runs `work` on a temporary folder beside `out` and renames it to `out` at the end, so that `out` is either complete or
 * untouched. Removes the temporary folder on failure; on a signal, call removeUnfinishedOutput(). With `force`, old content
 * of `out` is moved aside and removed only once the new folder is in place.
 *
 * @throws RmError OUTPUT_FAILED; what checkOutputFolder and `work` throw.
 */
export async function withOutputFolder<T>(
  out: string,
  options: OutputFolderOptions,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  const target = await checkOutputFolder(out, options);
  const parent = dirname(target);
  let createdTop: string | undefined;
  let temporary: string;
  try {
    createdTop = await mkdir(parent, { recursive: true });
    temporary = await beginFolder(target);
  } catch (error) {
    throw outputError(error, out);
  }
  try {
    const result = await work(temporary);
    // Check again: something may have appeared there during the work.
    await checkOutputFolder(out, options);
    const aside = await moveIntoPlace(temporary, target, options.force ?? false).catch(error =>
      Promise.reject(outputError(error, out)),
    );
    forgetUnfinished(temporary);
    if (aside !== undefined) await removeOld(aside, out);
    return result;
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    forgetUnfinished(temporary);
    if (createdTop !== undefined) await removeEmptyParents(parent, createdTop);
    throw error;
  }
}

/**
 * Runs `work` on a temporary folder beside `out`, for files too large for the system's temporary folder, and always removes
 * the folder afterwards.
 *
 * @throws RmError OUTPUT_FAILED; what `work` throws.
 */
export async function withFolderBeside<T>(out: string, work: (folder: string) => Promise<T>): Promise<T> {
  const target = await realPathOf(resolve(out));
  const parent = dirname(target);
  const createdTop = await mkdir(parent, { recursive: true }).catch(error =>
    Promise.reject(outputError(error, out)),
  );
  try {
    const folder = await beginFolder(target).catch(error => Promise.reject(outputError(error, out)));
    try {
      return await work(folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
      forgetUnfinished(folder);
    }
  } finally {
    if (createdTop !== undefined) await removeEmptyParents(parent, createdTop);
  }
}

/**
 * Checks before any work that the file `out` may be written; returns its real path.
 *
 * @throws RmError OUTPUT_EXISTS if a folder, or without `force` a file, is in the way, or if `out` is one of `protect`.
 */
export async function checkOutputFile(
  out: string,
  { force = false, protect = [] }: OutputFolderOptions = {},
): Promise<string> {
  const target = await realPathOf(resolve(out));
  await refuseProtected(out, target, protect, 'file');
  const existing = await whatIsAt(target);
  if (existing === 'nothing' || (existing === 'file' && force)) return target;
  throw new RmError(
    'OUTPUT_EXISTS',
    `${out}: a ${existing === 'file' ? 'file' : 'folder or link'} is in the way`,
    `Choose another path${existing === 'file' ? ', or add `force` to replace it' : ''}.`,
  );
}

/**
 * Like withOutputFolder, for a single file: `work` writes to a temporary path beside `out`, with the same ending, which is
 * renamed at the end.
 *
 * @throws RmError OUTPUT_FAILED; what checkOutputFile and `work` throw.
 */
export async function withOutputFile<T>(
  out: string,
  options: OutputFolderOptions,
  work: (path: string) => Promise<T>,
): Promise<T> {
  const target = await checkOutputFile(out, options);
  await removeLeftovers(target);
  const temporary = unfinishedPath(target, extname(target));
  addUnfinished(temporary);
  try {
    await mkdir(dirname(target), { recursive: true }).catch(error => Promise.reject(outputError(error, out)));
    const result = await work(temporary);
    await checkOutputFile(out, options);
    await rename(temporary, target).catch(error => Promise.reject(outputError(error, out)));
    return result;
  } finally {
    await rm(temporary, { force: true });
    forgetUnfinished(temporary);
  }
}
