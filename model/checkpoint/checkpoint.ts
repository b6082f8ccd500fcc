import type { DType } from '../../engine/dtype.js';

/** A tensor as a checkpoint stores it: row-major, little-endian, `byteLength` = product of shape x size of dtype. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: number[];
  readonly byteLength: number;
}

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
  /** All bytes of a tensor. Errors as `info`; CHECKPOINT_CORRUPT where the file ends early. */
  read(name: string): Promise<Uint8Array>;
  /** `byteLength` bytes of a tensor from `byteStart` on, both counted within the tensor. */
  readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array>;
  /** Closes its files. */
  close(): Promise<void>;
}
