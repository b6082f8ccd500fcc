import { type Device, PIECE, type Progress, RmError, type Scope, type Tensor } from '../../engine/index.js';
import { convert } from '../../kernels/index.js';
import {
  isStack,
  type LayerTensorNames,
  refKey,
  storedName,
  type TensorNames,
  type TensorPart,
  type TensorRef,
  type TensorStack,
  type VisionTensorNames,
} from '../architecture/architecture.js';
import { type Checkpoint, deviceBytes } from '../checkpoint/checkpoint.js';
import { uploadStored } from '../checkpoint/denseTensor.js';
import { firstNonFinite } from './firstNonFinite.js';
import type { LayerWeights, VisionWeights, Weights } from './weights.js';

/** The field that a tensor fills: of a layer's weights or, without a layer, of the model's. */
export interface TensorPlace {
  readonly layer: number | undefined;
  readonly key: string;
}

/** Returns a tensor already on the device that replaces the checkpoint's, or undefined. */
export type ReuseTensor = (place: TensorPlace, name: string) => Promise<Tensor | undefined>;

/** Settings of a WeightLoader. */
export interface LoaderOptions {
  /** Called before each tensor is read; a returned tensor must hold the same values and outlive the model. Not for offloaded layers. */
  reuse?: ReuseTensor;
  onProgress?: Progress;
  /** Bytes to load, for progress (default: the whole checkpoint). */
  totalBytes?: number;
  /** Called between pieces; throws to stop loading. */
  readonly check?: () => void;
}

/** Uploads tensors piece by piece, so that host memory stays small, and counts NaN and infinity on the device. */
export class WeightLoader {
  /** Loaded tensors in the checkpoint's number type, by refKey. */
  readonly loaded = new Map<string, Tensor>();
  #bytes = 0;

  constructor(
    private readonly device: Device,
    private readonly checkpoint: Checkpoint,
    private readonly names: TensorNames,
    private readonly options: LoaderOptions = {},
  ) {}

  /** Loads the weights outside the layers into `scope`. */
  async outer(scope: Scope, vision?: VisionTensorNames): Promise<Omit<Weights, 'layers'>> {
    const { embedding, finalNorm, finalNormBias, lmHead } = this.names;
    const names = { embedding, finalNorm, finalNormBias, lmHead };
    const outer = await this.#loadAll(undefined, names, scope);
    return {
      ...(outer as Omit<Weights, 'layers' | 'vision'>),
      ...(vision && { vision: (await this.#loadAll(undefined, vision, scope)) as VisionWeights }),
    };
  }

  /** Loads one layer's weights into `scope`. */
  async layer(index: number, scope: Scope): Promise<LayerWeights> {
    const names: Readonly<Record<keyof LayerTensorNames, TensorRef | null>> = this.names.layers[index]!;
    return (await this.#loadAll(index, names, scope)) as LayerWeights;
  }

  /** Loads the named tensors and returns them under the same keys. */
  async #loadAll<K extends string>(
    layer: number | undefined,
    names: Readonly<Record<K, TensorRef | null>>,
    scope: Scope,
  ): Promise<Record<K, Tensor | undefined>> {
    const tensors: Partial<Record<K, Tensor | undefined>> = {};
    for (const [key, ref] of Object.entries(names) as [K, TensorRef | null][]) {
      tensors[key] = ref === null ? undefined : await this.#load(layer, key, ref, scope);
    }
    return tensors as Record<K, Tensor | undefined>;
  }

  /** Checks all loaded tensors. @throws RmError NOT_FINITE naming the first that holds NaN or infinity. */
  async verifyFinite(): Promise<void> {
    const bad = await firstNonFinite(this.device, this.loaded);
    if (!bad) return;
    throw new RmError(
      'NOT_FINITE',
      `tensor '${bad.name}' in ${this.checkpoint.path} has ${bad.count} NaN or infinite values`,
      'The checkpoint is damaged: download it again, or export it again from an undamaged training state.',
    );
  }

  /** Loads a tensor as models expect it: biases in f32. */
  async #load(layer: number | undefined, key: string, ref: TensorRef, scope: Scope): Promise<Tensor> {
    const name = refKey(ref);
    const loaded = this.loaded.get(name);
    const whole = typeof ref === 'string';
    const reused = loaded ?? (whole ? await this.options.reuse?.({ layer, key }, ref) : undefined);
    const read = () => (isStack(ref) ? this.#readStack(ref, scope) : this.#read(ref, scope));
    const stored = reused ?? (await read());
    this.loaded.set(name, stored);
    if (!key.endsWith('Bias') || stored.dtype === 'f32') return stored;
    const widened = scope.tensor(stored.shape, 'f32', stored.label);
    convert(this.device.recorder, stored, widened);
    return widened;
  }

  async #read(ref: string | TensorPart, scope: Scope): Promise<Tensor> {
    const name = storedName(ref);
    const info = this.checkpoint.info(name);
    const { shape, dtype, byteLength } = info;
    const [stored = 1, ...rest] = shape;
    const part = typeof ref === 'string' ? { first: 0, count: stored, stride: stored, runs: 1 } : ref;
    const rows = part.runs * part.count;
    const tensor = scope.tensor([rows, ...rest], dtype, name);
    const rowBytes = byteLength / Math.max(1, stored);
    // Pieces have an even number of rows, because copies begin at multiples of four bytes.
    const piece = Math.max(2, 2 * Math.floor((PIECE * stored) / deviceBytes(info) / 2));
    for (let row = 0; row < rows; row += piece) {
      this.options.check?.();
      const count = Math.min(piece, rows - row);
      await uploadStored(info, await this.#rows(name, part, row, count, rowBytes), tensor.rows(row, count));
    }
    this.#count(tensor);
    return tensor;
  }

  /** Loads a stack of matrices, some rows of all of them at a time. */
  async #readStack({ names, along }: TensorStack, scope: Scope): Promise<Tensor> {
    const info = this.checkpoint.info(names[0]!);
    const { shape, dtype, byteLength } = info;
    const [rows = 0, columns = 0] = shape;
    const whole = along === 'rows' ? [names.length * rows, columns] : [rows, names.length * columns];
    const tensor = scope.tensor(whole, dtype, names[0]!);
    const rowBytes = byteLength / rows;
    const readRows = (name: string, row: number, count: number) =>
      this.checkpoint.readRange(name, row * rowBytes, count * rowBytes);
    // Copies to the device begin at multiples of four bytes, so matrices with odd rows are joined on the host first.
    const piece = Math.max(2, 2 * Math.floor((PIECE * rows) / (names.length * deviceBytes(info)) / 2));
    if (along === 'columns') {
      for (let row = 0; row < rows; row += piece) {
        this.options.check?.();
        const count = Math.min(piece, rows - row);
        const bytes = new Uint8Array(count * names.length * rowBytes);
        for (const [n, name] of names.entries()) {
          const from = await readRows(name, row, count);
          for (let r = 0; r < count; r++) {
            bytes.set(from.subarray(r * rowBytes, (r + 1) * rowBytes), (r * names.length + n) * rowBytes);
          }
        }
        await uploadStored(info, bytes, tensor.rows(row, count));
      }
    } else {
      for (let row = 0; row < whole[0]!; row += piece) {
        this.options.check?.();
        const count = Math.min(piece, whole[0]! - row);
        const pieces: Uint8Array[] = [];
        for (let at = row; at < row + count; ) {
          const length = Math.min(rows - (at % rows), row + count - at);
          pieces.push(await readRows(names[Math.floor(at / rows)]!, at % rows, length));
          at += length;
        }
        await uploadStored(info, Buffer.concat(pieces), tensor.rows(row, count));
      }
    }
    this.#count(tensor);
    return tensor;
  }

  #count({ byteLength }: Tensor): void {
    this.#bytes += byteLength;
    const total = this.options.totalBytes ?? this.checkpoint.totalBytes;
    this.options.onProgress?.({ phase: 'load', done: this.#bytes, total, unit: 'bytes' });
  }

  /** Reads rows row .. row+count-1 of a part of a stored tensor. */
  async #rows(
    name: string,
    { first, count: run, stride }: Omit<TensorPart, 'name'>,
    row: number,
    count: number,
    rowBytes: number,
  ): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    for (let at = row; at < row + count; ) {
      const within = at % run;
      const length = Math.min(run - within, row + count - at);
      const start = first + Math.floor(at / run) * stride + within;
      pieces.push(await this.checkpoint.readRange(name, start * rowBytes, length * rowBytes));
      at += length;
    }
    return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
  }
}
