import { type FileHandle, open } from 'node:fs/promises';
import { ensure } from '../../engine/index.js';
import { outputError } from '../files/outputError.js';

/** Produces a tensor's bytes, whole or in pieces; called when the tensor is written. */
export type TensorBytes = () =>
  | Promise<Uint8Array>
  | Uint8Array
  | Iterable<Uint8Array>
  | AsyncIterable<Uint8Array>;

/** A tensor to be written to a file. */
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
 * Writes a header and then each tensor, padded with zeros to a multiple of `alignment`. Holds one piece of a tensor in
 * memory at a time.
 *
 * @throws RmError OUTPUT_FAILED if the disk is full or the write fails; INVALID_ARGUMENT if a tensor does not yield
 *   `byteLength` bytes.
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
      const content = await tensor.bytes();
      let bytes = 0;
      for await (const piece of content instanceof Uint8Array ? [content] : content) {
        await writeAll(file, piece, path);
        bytes += piece.byteLength;
      }
      ensure(
        bytes === byteLength(tensor),
        `tensor ${tensor.name}: got ${bytes} bytes for shape [${tensor.shape}], which needs ${byteLength(tensor)}`,
        'Provide as many bytes as shape and number type require.',
      );
      await writeAll(file, new Uint8Array((alignment - (bytes % alignment)) % alignment), path);
      onTensor(tensor);
    }
    // Some file systems report a full disk only on sync.
    await file.sync().catch(error => {
      if (!['EINVAL', 'ENOTSUP', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '')) {
        throw outputError(error, path);
      }
    });
  } finally {
    await file.close();
  }
}
