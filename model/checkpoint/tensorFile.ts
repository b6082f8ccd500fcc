import { type FileHandle, open } from 'node:fs/promises';
import { ensure } from '../../engine/index.js';
import { outputError } from '../files/outputFolder.js';

/** A tensor's bytes, whole or in pieces; asked for when its turn to be written has come. */
export type TensorBytes = () =>
  | Promise<Uint8Array>
  | Uint8Array
  | Iterable<Uint8Array>
  | AsyncIterable<Uint8Array>;

/** A tensor as it goes into a file. */
export interface FileTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly bytes: TensorBytes;
}

async function writeAll(file: FileHandle, bytes: Uint8Array, path: string): Promise<void> {
  try {
    for (let done = 0; done < bytes.byteLength; ) {
      // fs writes at most 2^31 - 1 bytes at a time.
      const { bytesWritten } = await file.write(bytes, done, Math.min(bytes.byteLength - done, 2 ** 30));
      done += bytesWritten;
    }
  } catch (error) {
    throw outputError(error, path);
  }
}

/**
 * Writes a header and tensors one after the other, each followed by zeros up to a multiple of `alignment`. Holds one
 * piece of a tensor in memory at a time. Throws OUTPUT_FAILED where the disk is full or refuses, INVALID_ARGUMENT where
 * a tensor gives other than `byteLength` of it.
 */
export async function writeTensorFile<T extends FileTensor>(
  path: string,
  header: Uint8Array,
  tensors: readonly T[],
  {
    byteLength,
    alignment = 1,
    onTensor = () => {},
  }: { byteLength: (tensor: T) => number; alignment?: number; onTensor?: (tensor: T) => void },
): Promise<void> {
  const file = await open(path, 'w').catch(error => Promise.reject(outputError(error, path)));
  try {
    await writeAll(file, header, path);
    for (const tensor of tensors) {
      const given = await tensor.bytes();
      let bytes = 0;
      for await (const piece of given instanceof Uint8Array ? [given] : given) {
        await writeAll(file, piece, path);
        bytes += piece.byteLength;
      }
      ensure(
        bytes === byteLength(tensor),
        `tensor ${tensor.name}: ${bytes} bytes given for shape [${tensor.shape}], which takes ${byteLength(tensor)}`,
        'Give as many bytes as shape and number type say.',
      );
      await writeAll(file, new Uint8Array((alignment - (bytes % alignment)) % alignment), path);
      onTensor(tensor);
    }
    // Some file systems report a full disk only now.
    await file.sync().catch(error => {
      if (!['EINVAL', 'ENOTSUP', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '')) {
        throw outputError(error, path);
      }
    });
  } finally {
    await file.close();
  }
}
