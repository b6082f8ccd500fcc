import { byteSize, type DType, elementCount, ensure } from '../../engine/index.js';
import type { BlockFormat, PackedRows } from '../../kernels/index.js';

/** A tensor as a checkpoint stores it: row-major, little-endian. */
export interface TensorInfo {
  readonly name: string;
  /** Number type on the device. */
  readonly dtype: DType;
  readonly shape: number[];
  /** Bytes as they are read: the product of shape and dtype size, fewer for quantised blocks. */
  readonly byteLength: number;
  /** Set if the tensor is stored in quantised blocks, which become `dtype` on the device. A row is a whole number of blocks. */
  readonly blocks?: BlockFormat | PackedRows;
}

/** A tensor of a number type that kernels cannot read, as a checkpoint stores it: it can be copied, no more. */
export interface OpaqueTensor {
  /** As the safetensors format names it: I64, BOOL, F64, F8_E4M3 ... */
  readonly storage: string;
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/** Bytes of a tensor on the device. */
export const deviceBytes = ({ shape, dtype }: TensorInfo): number => elementCount(shape) * byteSize(dtype);

/** Bytes of a tensor in a written model: packed rows are written whole. */
export const writtenBytes = (info: TensorInfo): number =>
  typeof info.blocks === 'object' ? deviceBytes(info) : info.byteLength;

/** A model's weights on disk in any file format. Tensors are read on demand. */
export interface Checkpoint {
  /** The opened folder or file. */
  readonly path: string;
  readonly names: readonly string[];
  /** Bytes of all tensors together. */
  readonly totalBytes: number;
  /** Whether the checkpoint holds a tensor of that name. */
  has(name: string): boolean;
  /** A tensor that kernels cannot read; undefined for the others. @throws RmError CHECKPOINT_CORRUPT for a missing tensor. */
  opaque(name: string): OpaqueTensor | undefined;
  /** @throws RmError CHECKPOINT_CORRUPT for a missing tensor, UNSUPPORTED_DTYPE for a type that kernels cannot read. */
  info(name: string): TensorInfo;
  /** Reads all bytes of a tensor as stored. @throws RmError CHECKPOINT_CORRUPT for a missing tensor or a file that ends early. */
  read(name: string): Promise<Uint8Array>;
  /** Reads `byteLength` stored bytes of a tensor from `byteStart` on, both counted within the tensor. */
  readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array>;
  /** Fills `target` with stored bytes of a tensor from `byteStart` on. */
  readInto(name: string, byteStart: number, target: Uint8Array): Promise<void>;
  /** Closes the files. */
  close(): Promise<void>;
}

/** @throws RmError INVALID_ARGUMENT for a range outside a tensor of `size` bytes. */
export function requireRange(name: string, size: number, byteStart: number, byteLength: number): void {
  ensure(
    byteStart >= 0 && byteStart + byteLength <= size,
    `bytes ${byteStart} to ${byteStart + byteLength} lie outside tensor ${JSON.stringify(name)}, which has ${size}`,
    'Read a range within the tensor.',
  );
}
