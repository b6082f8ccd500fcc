import {
  type Device,
  downloadU32,
  RmError,
  type Scope,
  type Tensor,
  tensorFrom,
  upload,
} from '../engine/index.js';
import type { Progress } from '../engine/progress.js';
import { convert } from '../kernels/convert.js';
import { countNonFinite } from '../kernels/finite.js';
import type { TensorNames } from './architecture.js';
import type { Checkpoint } from './checkpoint/checkpoint.js';
import type { LayerWeights, Weights } from './model.js';

/** Bytes read and uploaded at a time. */
const PIECE = 64 << 20;

/** Reads tensors piece by piece, so that host memory stays small, and counts NaN and infinity on the device. */
export class WeightLoader {
  /** As stored, by checkpoint name. */
  readonly loaded = new Map<string, Tensor>();
  #bytes = 0;

  constructor(
    private readonly device: Device,
    private readonly checkpoint: Checkpoint,
    private readonly names: TensorNames,
    private readonly onProgress: Progress | undefined,
    /** Throws where loading should end between two pieces. */
    private readonly check: () => void = () => {},
  ) {}

  /** What is no layer's; in `scope`. */
  async outer(scope: Scope): Promise<Omit<Weights, 'layers'>> {
    const { names } = this;
    const embedding = await this.#load(names.embedding, scope);
    const finalNorm = await this.#load(names.finalNorm, scope);
    return { embedding, finalNorm, lmHead: await this.#load(names.lmHead, scope) };
  }

  /** One layer's weights, in `scope`. */
  async layer(index: number, scope: Scope): Promise<LayerWeights> {
    const layer = this.names.layers[index]!;
    const load = (name: string) => this.#load(name, scope);
    const bias = async (name: string | null) => (name ? this.#loadF32(name, scope) : undefined);
    return {
      inputNorm: await load(layer.inputNorm),
      q: await load(layer.q),
      k: await load(layer.k),
      v: await load(layer.v),
      o: await load(layer.o),
      qBias: await bias(layer.qBias),
      kBias: await bias(layer.kBias),
      vBias: await bias(layer.vBias),
      oBias: await bias(layer.oBias),
      postNorm: await load(layer.postNorm),
      gate: await load(layer.gate),
      up: await load(layer.up),
      down: await load(layer.down),
      gateBias: await bias(layer.gateBias),
      upBias: await bias(layer.upBias),
      downBias: await bias(layer.downBias),
    };
  }

  /** @throws RmError NOT_FINITE naming the first tensor that holds NaN or infinity. */
  async verifyFinite(): Promise<void> {
    const count = async (tensors: Iterable<Tensor>) => {
      using counter = tensorFrom(this.device, new Uint32Array(1));
      for (const tensor of tensors) countNonFinite(this.device.recorder, tensor, counter);
      return (await downloadU32(counter))[0]!;
    };
    if ((await count(this.loaded.values())) === 0) return;
    for (const [name, tensor] of this.loaded) {
      const bad = await count([tensor]);
      if (bad === 0) continue;
      throw new RmError(
        'NOT_FINITE',
        `tensor '${name}' in ${this.checkpoint.path} has ${bad} NaN or infinite values`,
        'The checkpoint is damaged: download it again, or export it again from a healthy training state.',
      );
    }
  }

  async #load(name: string, scope: Scope): Promise<Tensor> {
    const known = this.loaded.get(name);
    if (known) return known;
    const { shape, dtype, byteLength } = this.checkpoint.info(name);
    const tensor = scope.tensor(shape, dtype, name);
    const [rows = 1] = shape;
    const rowBytes = byteLength / Math.max(1, rows);
    // Pieces of an even number of rows: copies begin at multiples of four bytes.
    const piece = Math.max(2, 2 * Math.floor(PIECE / rowBytes / 2));
    for (let row = 0; row < rows; row += piece) {
      this.check();
      const count = Math.min(piece, rows - row);
      await upload(
        tensor.rows(row, count),
        await this.checkpoint.readRange(name, row * rowBytes, count * rowBytes),
      );
    }
    this.#bytes += byteLength;
    this.onProgress?.({ phase: 'load', done: this.#bytes, total: this.checkpoint.totalBytes, unit: 'bytes' });
    this.loaded.set(name, tensor);
    return tensor;
  }

  async #loadF32(name: string, scope: Scope): Promise<Tensor> {
    const stored = await this.#load(name, scope);
    if (stored.dtype === 'f32') return stored;
    const widened = scope.tensor(stored.shape, 'f32', name);
    convert(this.device.recorder, stored, widened);
    return widened;
  }
}
