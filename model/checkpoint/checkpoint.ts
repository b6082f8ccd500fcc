import { byteSize, type DType, elementCount } from '../../engine/index.js';
import type { BlockFormat } from '../../kernels/index.js';

/** A tensor as a checkpoint stores it: row-major, little-endian. */
export interface TensorInfo {
  readonly name: string;
  /** Number type on the device. */
  readonly dtype: DType;
  readonly shape: number[];
  /** Bytes on disk: the product of shape and dtype size, fewer for quantised blocks. */
  readonly byteLength: number;
  /** Set if the tensor is stored in quantised blocks, which become `dtype` on the device. A row is a whole number of blocks. */
  readonly blocks?: BlockFormat;
}

/** Bytes of a tensor on the device. */
export const deviceBytes = ({ shape, dtype }: TensorInfo): number => elementCount(shape) * byteSize(dtype);

/** A model's weights on disk in any file format. Tensors are read on demand. */
export interface Checkpoint {
  /** The opened folder or file. */
  readonly path: string;
  readonly names: readonly string[];
  /** Bytes of all tensors together. */
  readonly totalBytes: number;
  /** Whether the checkpoint holds a tensor of that name. */
  has(name: string): boolean;
  /** @throws RmError CHECKPOINT_CORRUPT for a missing tensor, UNSUPPORTED_DTYPE for a type that kernels cannot read. */
  info(name: string): TensorInfo;
  /** Reads all bytes of a tensor as stored. Throws what `info` throws; CHECKPOINT_CORRUPT if the file ends early. */
  read(name: string): Promise<Uint8Array>;
  /** Reads `byteLength` stored bytes of a tensor from `byteStart` on, both counted within the tensor. */
  readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array>;
  /** Closes the files. */
  close(): Promise<void>;
}
