import { constants } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { RmError } from '../../engine/index.js';
import { outputError } from '../files/outputError.js';

const foreign = (path: string, what: string): RmError =>
  new RmError(
    'OUTPUT_EXISTS',
    `${path}: ${what}, not what a stopped download left`,
    'Remove it, then run again.',
  );

/**
 * Opens the unfinished file of a download, or creates it. A link, another name of a file elsewhere, or a file of another
 * user is never written to.
 *
 * @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED.
 */
export async function openPartialFile(path: string): Promise<{ file: FileHandle; size: number }> {
  const { O_RDWR, O_CREAT, O_NOFOLLOW = 0, O_NONBLOCK = 0 } = constants;
  // Where the system cannot refuse links on opening, look before.
  const before = await lstat(path).catch(() => undefined);
  if (before?.isSymbolicLink()) throw foreign(path, 'is a symbolic link');
  if (before && !before.isFile()) throw foreign(path, 'is not a file');
  let file: FileHandle;
  try {
    file = await open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o644);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ELOOP') throw foreign(path, 'is a symbolic link');
    throw outputError(error, path);
  }
  const stats = await file.stat();
  const own = process.getuid?.() ?? stats.uid;
  const problem = !stats.isFile()
    ? 'is not a file'
    : stats.nlink > 1
      ? 'is a second name of another file'
      : stats.uid !== own
        ? 'belongs to another user'
        : undefined;
  if (problem === undefined) return { file, size: stats.size };
  await file.close();
  throw foreign(path, problem);
}
