import { existsSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import {
  asU16,
  asU32,
  byteSize,
  type Device,
  type DType,
  downloadPieces,
  elementCount,
  PIECE,
  type Scope,
  Tensor,
  uploadPieces,
} from '../../engine/index.js';
import { convert } from '../../kernels/index.js';
import { outputError } from '../files/outputFolder.js';
import { addUnfinished, forgetUnfinished, unfinishedPath } from '../files/unfinishedOutput.js';
import type { LayerWeights } from './weights.js';

/** A tensor that waits on the disk; row-major, little-endian. */
export class SpilledTensor {
  readonly byteLength: number;

  /** Made by `SpillFile.add`. */
  constructor(
    readonly shape: readonly number[],
    readonly dtype: DType,
    private readonly readAt: (from: number, byteLength: number) => Promise<Uint8Array>,
  ) {
    this.byteLength = elementCount(shape) * byteSize(dtype);
  }

  /** Some of its bytes (default: all). @throws RmError OUTPUT_FAILED where they cannot be read. */
  read(from = 0, byteLength = this.byteLength - from): Promise<Uint8Array> {
    return this.readAt(from, byteLength);
  }

  /** Its bytes, 64 MiB at a time. */
  async *pieces(): AsyncIterable<Uint8Array> {
    for (let from = 0; from < this.byteLength; from += PIECE) {
      yield await this.read(from, Math.min(PIECE, this.byteLength - from));
    }
  }
}

/** Weights of a layer that wait on the disk, as a checkpoint stores them. */
export type SpilledWeights = { readonly [K in keyof LayerWeights]?: SpilledTensor };

/**
 * A file for tensors that are too many for memory, in the folder where an output is to be. It has no name: no other process finds it,
 * and it is gone with this one, however that ends.
 */
export class SpillFile {
  #file: Promise<FileHandle> | undefined;
  /** Of a system that keeps the name of a file that is open. */
  #named: string | undefined;
  #end = 0;

  /** @param out the output, whose disk must have room for what waits; nothing is there until something is added. */
  constructor(private readonly out: string) {}

  /** A copy of a tensor on the device. @throws RmError OUTPUT_FAILED where the disk is full or refuses. */
  async add(tensor: Tensor): Promise<SpilledTensor> {
    return await this.addBytes(tensor.shape, tensor.dtype, downloadPieces(tensor));
  }

  /** The same of bytes. */
  async addBytes(
    shape: readonly number[],
    dtype: DType,
    pieces: AsyncIterable<Uint8Array>,
  ): Promise<SpilledTensor> {
    const begin = this.#end;
    const tensor = new SpilledTensor(shape, dtype, (from, length) => this.#read(begin + from, length));
    this.#end += tensor.byteLength;
    this.#file ??= this.#open();
    const file = await this.#file;
    let at = begin;
    try {
      for await (const piece of pieces) {
        for (let done = 0; done < piece.byteLength; ) {
          const left = piece.byteLength - done;
          const { bytesWritten } = await file.write(piece, done, left, at);
          done += bytesWritten;
          at += bytesWritten;
        }
      }
    } catch (error) {
      throw outputError(error, this.out);
    }
    return tensor;
  }

  async #open(): Promise<FileHandle> {
    let folder = dirname(resolve(this.out));
    while (!existsSync(folder)) folder = dirname(folder);
    const path = unfinishedPath(join(folder, basename(this.out)));
    try {
      const file = await open(path, 'wx+');
      this.#named = path;
      addUnfinished(path);
      await this.#removeName().catch(() => {});
      return file;
    } catch (error) {
      throw outputError(error, this.out);
    }
  }

  async #read(from: number, byteLength: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(byteLength);
    const file = await this.#file!;
    for (let done = 0; done < byteLength; ) {
      const { bytesRead } = await file
        .read(bytes, done, byteLength - done, from + done)
        .catch(error => Promise.reject(outputError(error, this.out)));
      if (bytesRead === 0) throw new Error('a tensor was read before it was written');
      done += bytesRead;
    }
    return bytes;
  }

  /** Frees the disk; what waits is lost. */
  async close(): Promise<void> {
    const file = await this.#file?.catch(() => undefined);
    await file?.close();
    await this.#removeName();
    this.#file = undefined;
  }

  async #removeName(): Promise<void> {
    if (this.#named === undefined) return;
    await rm(this.#named, { force: true });
    forgetUnfinished(this.#named);
    this.#named = undefined;
  }

  /** `close`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** How many of its values are NaN or infinite: those whose exponent has all bits set. */
export async function nonFiniteIn(tensor: SpilledTensor): Promise<number> {
  const { dtype } = tensor;
  if (dtype === 'u32') return 0;
  const exponent = { f32: 0x7f800000, f16: 0x7c00, bf16: 0x7f80 }[dtype];
  let count = 0;
  for await (const bytes of tensor.pieces()) {
    const words = dtype === 'f32' ? asU32(bytes) : asU16(bytes);
    for (const word of words) if ((word & exponent) === exponent) count++;
  }
  return count;
}

/** Brings weights to the device as models hold them: biases in f32, all else as stored; in `scope`. */
export async function toDevice(
  device: Device,
  weights: SpilledWeights,
  scope: Scope,
): Promise<Partial<LayerWeights>> {
  const found: Record<string, Tensor> = {};
  for (const [key, spilled] of Object.entries(weights) as [string, SpilledTensor][]) {
    const { shape, dtype } = spilled;
    const stored = scope.own(Tensor.create(device, shape, dtype, key));
    await uploadPieces(stored, spilled.pieces());
    found[key] = stored;
    if (!key.endsWith('Bias') || dtype === 'f32') continue;
    found[key] = scope.tensor(shape, 'f32', key);
    convert(device.recorder, stored, found[key]);
  }
  return found as Partial<LayerWeights>;
}
