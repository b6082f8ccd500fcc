import { recordBytes } from '../../kernels/index.js';
import {
  type Checkpoint,
  type OpaqueTensor,
  requireRange,
  type TensorInfo,
} from '../checkpoint/checkpoint.js';
import { filled } from '../checkpoint/fileReads.js';
import type { WeightDtype } from '../checkpoint/inDtype.js';
import type { CompressedTensor } from './compressedTensor.js';
import { rowRecords } from './rowRecords.js';

/** Presents compressed weights under the names that they have in an uncompressed model, as packed rows. */
export class CompressedCheckpoint implements Checkpoint {
  readonly path: string;
  readonly totalBytes: number;
  readonly #known: ReadonlySet<string>;

  /**
   * @param stored closed by `close`.
   * @param names of compressed and other tensors.
   */
  constructor(
    private readonly stored: Checkpoint,
    readonly names: readonly string[],
    private readonly tensors: ReadonlyMap<string, CompressedTensor>,
    private readonly dtype: WeightDtype,
  ) {
    this.path = stored.path;
    this.totalBytes = stored.totalBytes;
    this.#known = new Set(names);
  }

  has(name: string): boolean {
    return this.#known.has(name);
  }

  opaque(name: string): OpaqueTensor | undefined {
    return this.tensors.has(name) ? undefined : this.stored.opaque(name);
  }

  info(name: string): TensorInfo {
    const tensor = this.tensors.get(name);
    if (!tensor) return this.stored.info(name);
    const { rows, format } = tensor;
    return {
      ...{ name, dtype: this.dtype, shape: [rows, format.columns] },
      ...{ byteLength: rows * recordBytes(format), blocks: format },
    };
  }

  read(name: string): Promise<Uint8Array> {
    return this.tensors.has(name)
      ? this.readRange(name, 0, this.info(name).byteLength)
      : this.stored.read(name);
  }

  readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array> {
    return filled(byteLength, target => this.readInto(name, byteStart, target));
  }

  async readInto(name: string, byteStart: number, target: Uint8Array): Promise<void> {
    const tensor = this.tensors.get(name);
    if (!tensor) return await this.stored.readInto(name, byteStart, target);
    const { rows, format, parts } = tensor;
    const rowBytes = recordBytes(format);
    const byteEnd = byteStart + target.byteLength;
    requireRange(name, rows * rowBytes, byteStart, target.byteLength);
    const first = Math.floor(byteStart / rowBytes);
    const records = await rowRecords(format, parts, first, Math.ceil(byteEnd / rowBytes) - first);
    target.set(records.subarray(byteStart - first * rowBytes, byteEnd - first * rowBytes));
  }

  close(): Promise<void> {
    return this.stored.close();
  }
}
