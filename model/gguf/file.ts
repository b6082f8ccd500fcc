import { openWeightFile, readAt, readInto } from '../checkpoint/fileReads.js';
import type { GgufContents } from './contents.js';
import {
  corruptGguf,
  type GgufHeader,
  MAX_HEADER_BYTES,
  MoreBytesNeeded,
  parseGgufHeader,
} from './header.js';

/** An open GGUF file: its checked header and positioned reads. */
export interface GgufFile extends GgufHeader {
  readonly path: string;
  readonly fileBytes: number;
  /** Reads `byteLength` bytes at `position`. @throws RmError CHECKPOINT_CORRUPT if the file ends early. */
  read(position: number, byteLength: number): Promise<Uint8Array>;
  readInto(position: number, target: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Opens a GGUF file and checks its whole header. @throws RmError CHECKPOINT_MISSING, CHECKPOINT_CORRUPT. */
export async function openGgufFile(path: string): Promise<GgufFile> {
  const { file, size: fileBytes } = await openWeightFile(path);
  const reads = {
    read: (position: number, byteLength: number) => readAt(file, path, position, byteLength),
    readInto: (position: number, target: Uint8Array) => readInto(file, path, position, target),
  };
  try {
    // The header's length is unknown before it is parsed.
    for (let length = 1 << 20; ; length *= 4) {
      const bytes = await reads.read(0, Math.min(length, fileBytes, MAX_HEADER_BYTES));
      try {
        const header = parseGgufHeader(bytes, fileBytes, path);
        return { ...header, path, fileBytes, ...reads, close: () => file.close() };
      } catch (error) {
        if (!(error instanceof MoreBytesNeeded)) throw error;
        if (length >= MAX_HEADER_BYTES) {
          throw corruptGguf(`${path}: the header is longer than ${MAX_HEADER_BYTES} bytes`);
        }
      }
    }
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Runs `work` on an open file and closes it. */
export async function withGgufFile<T>(path: string, work: (file: GgufFile) => Promise<T>): Promise<T> {
  const file = await openGgufFile(path);
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

/** The content of an open file. */
export const contentsOf = ({ path, metadata, tensors, read }: GgufFile): GgufContents => ({
  path,
  metadata,
  tensors,
  bytesOf: async name => {
    const { begin, end } = tensors.find(tensor => tensor.name === name)!;
    return read(begin, end - begin);
  },
});
