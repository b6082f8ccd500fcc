import { copyFile, writeFile } from 'node:fs/promises';
import { RmError, reasonOf } from '../../engine/index.js';

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
  EISDIR: ['a folder is in the way', 'Choose another path.'],
  ENAMETOOLONG: ['the name is too long', 'Choose a shorter path.'],
  ELOOP: ['its symbolic links lead back to themselves', 'Choose another path.'],
  ENOENT: ['its folder is not there any more', 'Make the folder again, or choose another path.'],
  EBUSY: ['the folder is a mount point or in use', 'Choose a folder within it.'],
  EXDEV: ['the folder is a mount point and cannot be replaced', 'Choose a folder within it.'],
};

/** Turns a failed write into OUTPUT_FAILED with a fix; returns an RmError unchanged. */
export function outputError(error: unknown, path: string): RmError {
  if (error instanceof RmError) return error;
  const { code } = error as NodeJS.ErrnoException;
  const [reason, fix] = reasons[code ?? ''] ?? [
    reasonOf(error),
    'Check the disk and the path, then run again.',
  ];
  return new RmError('OUTPUT_FAILED', `${path}: cannot be written: ${reason}`, fix, { cause: error });
}

/** Writes a small file. @throws RmError OUTPUT_FAILED if the disk is full or the write fails. */
export const writeOutputFile = (path: string, data: string | Uint8Array): Promise<void> =>
  writeFile(path, data).catch(error => Promise.reject(outputError(error, path)));

/** Copies a file byte for byte. @throws RmError OUTPUT_FAILED if the disk is full or the write fails. */
export const copyOutputFile = (from: string, to: string): Promise<void> =>
  copyFile(from, to).catch(error => Promise.reject(outputError(error, to)));
