import { type FileHandle, open } from 'node:fs/promises';
import { RmError, reasonOf } from '../../engine/index.js';

/** fs reads at most 2^31 - 1 bytes at a time. */
const maxReadBytes = 2 ** 30;

function unreadable(path: string, error: NodeJS.ErrnoException): RmError {
  const reason = error.code === 'ENOENT' ? 'does not exist' : `cannot be read: ${reasonOf(error)}`;
  const fix = 'Check the path and its permissions, or download the file again.';
  return new RmError('CHECKPOINT_MISSING', `${path} ${reason}`, fix, { cause: error });
}

/** Fills `target` with the bytes at `position`. @throws RmError CHECKPOINT_MISSING; CHECKPOINT_CORRUPT if the file ends early. */
export async function readInto(
  file: FileHandle,
  path: string,
  position: number,
  target: Uint8Array,
): Promise<void> {
  for (let done = 0; done < target.byteLength; ) {
    const length = Math.min(target.byteLength - done, maxReadBytes);
    const { bytesRead } = await file
      .read(target, done, length, position + done)
      .catch(error => Promise.reject(unreadable(path, error)));
    if (bytesRead === 0) {
      throw new RmError(
        'CHECKPOINT_CORRUPT',
        `${path}: ends at byte ${position + done}; it was truncated while open`,
        'The file is damaged or was not fully copied: download or export it again.',
      );
    }
    done += bytesRead;
  }
}

/** Reads `byteLength` bytes at `position`. @throws RmError as `readInto`. */
export const readAt = (file: FileHandle, path: string, position: number, byteLength: number) =>
  filled(byteLength, target => readInto(file, path, position, target));

/** New bytes that `fill` has written. */
export async function filled(
  byteLength: number,
  fill: (target: Uint8Array) => Promise<void>,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(byteLength);
  await fill(bytes);
  return bytes;
}

/** Opens a weight file and returns its size in bytes. @throws RmError CHECKPOINT_MISSING. */
export async function openWeightFile(path: string): Promise<{ file: FileHandle; size: number }> {
  const file = await open(path, 'r').catch(error => Promise.reject(unreadable(path, error)));
  const stats = await file.stat();
  if (stats.isFile()) return { file, size: stats.size };
  await file.close();
  throw new RmError('CHECKPOINT_MISSING', `${path} is not a file`, 'Put the weight file there.');
}
