import { type Device, RmError, type Scope, type Tensor, upload } from '../engine/index.js';
import { PIECE } from '../engine/transfer.js';
import { convert } from '../kernels/convert.js';
import type { TensorNames } from './architecture.js';
import type { Checkpoint } from './checkpoint/checkpoint.js';
import { firstNonFinite } from './firstNonFinite.js';
import type { LayerWeights, LoadOptions, Weights } from './model.js';

/** What a loader takes besides the checkpoint. */
export interface LoaderOptions extends Pick<LoadOptions, 'onProgress' | 'reuse'> {
  /** Throws where loading should end between two pieces. */
  readonly check?: () => void;
}

/** Reads tensors piece by piece, so that host memory stays small, and counts NaN and infinity on the device. */
export class WeightLoader {
  /** As stored, by checkpoint name. */
  readonly loaded = new Map<string, Tensor>();
  #bytes = 0;

  constructor(
    private readonly device: Device,
    private readonly checkpoint: Checkpoint,
    private readonly names: TensorNames,
    private readonly options: LoaderOptions = {},
  ) {}

  /** What is no layer's; in `scope`. */
  async outer(scope: Scope): Promise<Omit<Weights, 'layers'>> {
    const { embedding, finalNorm, lmHead } = this.names;
    const load = (key: string, name: string) => this.#load(undefined, key, name, scope);
    return {
      embedding: await load('embedding', embedding),
      finalNorm: await load('finalNorm', finalNorm),
      lmHead: await load('lmHead', lmHead),
    };
  }

  /** One layer's weights, in `scope`. */
  async layer(index: number, scope: Scope): Promise<LayerWeights> {
    const weights: Record<string, Tensor | undefined> = {};
    for (const [key, name] of Object.entries(this.names.layers[index]!) as [string, string | null][]) {
      weights[key] = name === null ? undefined : await this.#load(index, key, name, scope);
    }
    return weights as unknown as LayerWeights;
  }

  /** @throws RmError NOT_FINITE naming the first tensor that holds NaN or infinity. */
  async verifyFinite(): Promise<void> {
    const found = await firstNonFinite(this.device, this.loaded);
    if (!found) return;
    throw new RmError(
      'NOT_FINITE',
      `tensor '${found.name}' in ${this.checkpoint.path} has ${found.count} NaN or infinite values`,
      'The checkpoint is damaged: download it again, or export it again from a healthy training state.',
    );
  }

  /** A tensor as the model holds it: biases in f32. */
  async #load(layer: number | undefined, key: string, name: string, scope: Scope): Promise<Tensor> {
    const known = this.loaded.get(name);
    const reused = known ?? (await this.options.reuse?.({ layer, key }, name));
    if (reused) this.loaded.set(name, reused);
    const stored = reused ?? (await this.#read(name, scope));
    if (!key.endsWith('Bias') || stored.dtype === 'f32') return stored;
    const widened = scope.tensor(stored.shape, 'f32', name);
    convert(this.device.recorder, stored, widened);
    return widened;
  }

  async #read(name: string, scope: Scope): Promise<Tensor> {
    const { shape, dtype, byteLength } = this.checkpoint.info(name);
    const tensor = scope.tensor(shape, dtype, name);
    const [rows = 1] = shape;
    const rowBytes = byteLength / Math.max(1, rows);
    // Pieces of an even number of rows: copies begin at multiples of four bytes.
    const piece = Math.max(2, 2 * Math.floor(PIECE / rowBytes / 2));
    for (let row = 0; row < rows; row += piece) {
      this.options.check?.();
      const count = Math.min(piece, rows - row);
      await upload(
        tensor.rows(row, count),
        await this.checkpoint.readRange(name, row * rowBytes, count * rowBytes),
      );
    }
    this.#bytes += byteLength;
    this.options.onProgress?.({
      phase: 'load',
      done: this.#bytes,
      total: this.checkpoint.totalBytes,
      unit: 'bytes',
    });
    this.loaded.set(name, tensor);
    return tensor;
  }
}
