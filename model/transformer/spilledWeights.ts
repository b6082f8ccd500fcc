import { existsSync } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import {
  asU16,
  asU32,
  byteSize,
  checkArguments,
  type Device,
  type DType,
  downloadPieces,
  dtypes,
  elementCount,
  ensureTensor,
  listOf,
  oneOf,
  PIECE,
  type Scope,
  type Tensor,
  uploadFrom,
  whole,
} from '../../engine/index.js';
import { convert } from '../../kernels/index.js';
import { aPath, manyThings } from '../arguments/forms.js';
import { outputError } from '../files/outputError.js';
import { workPath } from '../files/outputPlace.js';
import { realPathOf } from '../files/overlap.js';
import { addUnfinished, forgetUnfinished, unfinishedPath } from '../files/unfinishedOutput.js';
import type { LayerWeights } from './weights.js';

/** A tensor spilled to disk; row-major, little-endian. */
export class SpilledTensor {
  readonly byteLength: number;

  /** Called by `SpillFile.add`. */
  constructor(
    readonly shape: readonly number[],
    readonly dtype: DType,
    private readonly source: (target: Uint8Array, from: number) => Promise<void>,
  ) {
    this.byteLength = elementCount(shape) * byteSize(dtype);
  }

  /** Reads some of its bytes (default: all). @throws RmError OUTPUT_FAILED if they cannot be read. */
  async read(from = 0, byteLength = this.byteLength - from): Promise<Uint8Array> {
    const bytes = new Uint8Array(byteLength);
    await this.readInto(bytes, from);
    return bytes;
  }

  /** Fills `target` with its bytes from `from` on. @throws RmError OUTPUT_FAILED if they cannot be read. */
  readInto(target: Uint8Array, from: number): Promise<void> {
    return this.source(target, from);
  }

  /** Reads its bytes, 64 MiB at a time. */
  async *pieces(): AsyncIterable<Uint8Array> {
    for (let from = 0; from < this.byteLength; from += PIECE) {
      yield await this.read(from, Math.min(PIECE, this.byteLength - from));
    }
  }
}

/** A layer's weights spilled to disk, in the checkpoint's form. */
export type SpilledWeights = { readonly [K in keyof LayerWeights]?: SpilledTensor };

/**
 * Spills tensors to a temporary file beside an output. The file is unlinked at once: no other process finds it, and it
 * disappears with this one, however that ends.
 */
export class SpillFile {
  #file: Promise<FileHandle> | undefined;
  /** Set on systems that cannot unlink an open file. */
  #path: string | undefined;
  #end = 0;

  /** @param out the output; its disk must have room for the spilled tensors. The file is created by the first `add`. */
  constructor(private readonly out: string) {
    checkArguments('SpillFile', { out }, { out: aPath });
  }

  /** Copies a tensor from the device to disk. @throws RmError OUTPUT_FAILED if the disk is full or the write fails. */
  async add(tensor: Tensor): Promise<SpilledTensor> {
    ensureTensor(tensor, 'what a SpillFile should keep');
    return await this.addBytes(tensor.shape, tensor.dtype, downloadPieces(tensor));
  }

  /** Like `add`, from bytes. */
  async addBytes(
    shape: readonly number[],
    dtype: DType,
    pieces: AsyncIterable<Uint8Array>,
  ): Promise<SpilledTensor> {
    checkArguments(
      'SpillFile.addBytes',
      { shape, dtype, pieces },
      { shape: listOf(whole()), dtype: oneOf(...dtypes), pieces: manyThings },
    );
    const begin = this.#end;
    const tensor = new SpilledTensor(shape, dtype, (target, from) => this.#read(target, begin + from));
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
    let folder = dirname(workPath(realPathOf(resolve(this.out))));
    while (!existsSync(folder)) folder = dirname(folder);
    const path = unfinishedPath(join(folder, basename(this.out)));
    try {
      const file = await open(path, 'wx+');
      this.#path = path;
      addUnfinished(path);
      await this.#removeName().catch(() => {});
      return file;
    } catch (error) {
      throw outputError(error, this.out);
    }
  }

  async #read(target: Uint8Array, from: number): Promise<void> {
    const file = await this.#file!;
    for (let done = 0; done < target.byteLength; ) {
      const { bytesRead } = await file
        .read(target, done, target.byteLength - done, from + done)
        .catch(error => Promise.reject(outputError(error, this.out)));
      if (bytesRead === 0) throw new Error('a tensor was read before it was written');
      done += bytesRead;
    }
  }

  /** Frees the disk space; the spilled tensors are lost. */
  async close(): Promise<void> {
    const file = await this.#file?.catch(() => undefined);
    await file?.close();
    await this.#removeName();
    this.#file = undefined;
  }

  async #removeName(): Promise<void> {
    if (this.#path === undefined) return;
    await rm(this.#path, { force: true });
    forgetUnfinished(this.#path);
    this.#path = undefined;
  }

  /** `close`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Counts the NaN and infinite values of a spilled tensor: those whose exponent bits are all set. */
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

/** Uploads spilled weights into `scope` as models expect them: biases in f32, the rest as stored. */
export async function toDevice(
  device: Device,
  weights: SpilledWeights,
  scope: Scope,
): Promise<Partial<LayerWeights>> {
  const tensors: Record<string, Tensor> = {};
  for (const [key, spilled] of Object.entries(weights) as [string, SpilledTensor][]) {
    const { shape, dtype } = spilled;
    const stored = scope.weights(shape, dtype, key);
    await uploadFrom(stored, (target, at) => spilled.readInto(target, at));
    tensors[key] = stored;
    if (!key.endsWith('Bias') || dtype === 'f32') continue;
    tensors[key] = scope.weights(shape, 'f32', key);
    convert(device.recorder, stored, tensors[key]);
  }
  return tensors as Partial<LayerWeights>;
}
