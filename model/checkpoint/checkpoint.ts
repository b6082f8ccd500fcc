import { byteSize, type DType, elementCount } from '../../engine/index.js';
import type { BlockFormat } from '../../kernels/index.js';

/** A tensor as a checkpoint stores it: row-major, little-endian. */
export interface TensorInfo {
  readonly name: string;
  /** On the device. */
  readonly dtype: DType;
  readonly shape: number[];
  /** As it is stored: product of shape x size of dtype, less in blocks. */
  readonly byteLength: number;
  /** Where it is stored in blocks that become `dtype` on the device. A row is a whole number of blocks. */
  readonly blocks?: BlockFormat;
}

/** Bytes of a tensor on the device. */
export const deviceBytes = ({ shape, dtype }: TensorInfo): number => elementCount(shape) * byteSize(dtype);

/** A model's weights on disk, whatever the file format. Nothing is read before it is asked for. */
export interface Checkpoint {
  /** The folder (or single file) that was opened. */
  readonly path: string;
  readonly names: readonly string[];
  /** Bytes of all tensors together. */
  readonly totalBytes: number;
  /** Whether the checkpoint holds a tensor of that name. */
  has(name: string): boolean;
  /** Throws CHECKPOINT_CORRUPT for a name that is not there, UNSUPPORTED_DTYPE for a type kernels cannot read. */
  info(name: string): TensorInfo;
  /** All bytes of a tensor, as it is stored. Errors as `info`; CHECKPOINT_CORRUPT where the file ends early. */
  read(name: string): Promise<Uint8Array>;
  /** `byteLength` stored bytes of a tensor from `byteStart` on, both counted within the tensor. */
  readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array>;
  /** Closes its files. */
  close(): Promise<void>;
}
