import {
  type Device,
  downloadU32,
  RmError,
  Scope,
  type Tensor,
  tensorFrom,
  upload,
} from '../engine/index.js';
import type { Progress } from '../engine/progress.js';
import { convert } from '../kernels/convert.js';
import { countNonFinite } from '../kernels/finite.js';
import { type Architecture, keepLayers } from './architecture.js';
import type { Checkpoint } from './checkpoint/checkpoint.js';
import { checkShapes, readArchitecture } from './families/index.js';
import { openCheckpoint } from './modelSource.js';
import { RotationTable } from './rotationTable.js';

/** One layer's tensors on the device, in the checkpoint's dtype; biases as f32. */
export interface LayerWeights {
  readonly inputNorm: Tensor;
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly o: Tensor;
  readonly qBias: Tensor | undefined;
  readonly kBias: Tensor | undefined;
  readonly vBias: Tensor | undefined;
  readonly oBias: Tensor | undefined;
  readonly postNorm: Tensor;
  readonly gate: Tensor;
  readonly up: Tensor;
  readonly down: Tensor;
  readonly gateBias: Tensor | undefined;
  readonly upBias: Tensor | undefined;
  readonly downBias: Tensor | undefined;
  /** f32 [hidden, hidden], multiplies the residual stream after the layer: what a patch does that no checkpoint holds. */
  readonly residualMap?: Tensor;
}

/** Weights that take the place of a model's own. */
export interface WeightChanges extends Partial<Omit<Weights, 'layers'>> {
  /** By layer, as the model counts them. */
  readonly layers?: ReadonlyMap<number, Partial<LayerWeights>>;
}

/** All tensors of a model on the device, in the dtype of the checkpoint. */
export interface Weights {
  readonly embedding: Tensor;
  readonly finalNorm: Tensor;
  /** The embedding itself where they are tied. */
  readonly lmHead: Tensor;
  readonly layers: readonly LayerWeights[];
}

/** Settings of `Model.load`. */
export interface LoadOptions {
  onProgress?: Progress;
}

/** Bytes read and uploaded at a time. */
const PIECE = 64 << 20;

/** A transformer whose weights are on the device. */
export class Model {
  private constructor(
    readonly device: Device,
    readonly arch: Architecture,
    readonly weights: Weights,
    readonly rotations: RotationTable,
    /** Tensors as stored, by checkpoint name. */
    readonly tensors: ReadonlyMap<string, Tensor>,
    private readonly owned: Scope | undefined,
  ) {}

  /**
   * Loads a model folder (config.json and safetensors).
   *
   * @throws RmError CHECKPOINT_*, CONFIG_INVALID, UNSUPPORTED_FAMILY, OUT_OF_MEMORY, NOT_FINITE (names the tensor).
   */
  static async load(device: Device, folder: string, options: LoadOptions = {}): Promise<Model> {
    using _section = device.section('load');
    const arch = await readArchitecture(folder);
    const checkpoint = await openCheckpoint(folder);
    const scope = new Scope(device);
    try {
      checkShapes(arch, checkpoint);
      // What earlier work left in the pool would stand beside the weights.
      device.memory.trim();
      const loader = new Loader(device, checkpoint, scope, options.onProgress);
      const weights = await loader.weights(arch);
      await loader.verifyFinite();
      await device.recorder.finish();
      return new Model(device, arch, weights, new RotationTable(device, arch), loader.loaded, scope);
    } catch (error) {
      scope.dispose();
      throw error;
    } finally {
      await checkpoint.close();
    }
  }

  /**
   * The model with only the layers `keep` (ascending) and with `changes`, sharing all other tensors: disposing it frees
   * nothing, and it must not outlive this one.
   */
  withLayers(keep: readonly number[], { layers: changed, ...outer }: WeightChanges = {}): Model {
    const layers = keep.map(layer => ({ ...this.weights.layers[layer]!, ...changed?.get(layer) }));
    const arch = keepLayers(this.arch, keep);
    return new Model(
      this.device,
      arch,
      { ...this.weights, ...outer, layers },
      this.rotations,
      this.tensors,
      undefined,
    );
  }

  /** Frees the weights; nothing, where the model shares those of another. */
  dispose(): void {
    if (!this.owned) return;
    this.owned.dispose();
    this.rotations.dispose();
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Reads tensors piece by piece, so that host memory stays small, and counts NaN and infinity on the device. */
class Loader {
  readonly loaded = new Map<string, Tensor>();
  #bytes = 0;

  constructor(
    private readonly device: Device,
    private readonly checkpoint: Checkpoint,
    private readonly scope: Scope,
    private readonly onProgress: Progress | undefined,
  ) {}

  async weights(arch: Architecture): Promise<Weights> {
    const names = arch.tensorNames;
    const embedding = await this.#load(names.embedding);
    const layers: LayerWeights[] = [];
    for (const layer of names.layers) {
      const bias = async (name: string | null) => (name ? this.#loadF32(name) : undefined);
      layers.push({
        inputNorm: await this.#load(layer.inputNorm),
        q: await this.#load(layer.q),
        k: await this.#load(layer.k),
        v: await this.#load(layer.v),
        o: await this.#load(layer.o),
        qBias: await bias(layer.qBias),
        kBias: await bias(layer.kBias),
        vBias: await bias(layer.vBias),
        oBias: await bias(layer.oBias),
        postNorm: await this.#load(layer.postNorm),
        gate: await this.#load(layer.gate),
        up: await this.#load(layer.up),
        down: await this.#load(layer.down),
        gateBias: await bias(layer.gateBias),
        upBias: await bias(layer.upBias),
        downBias: await bias(layer.downBias),
      });
    }
    const finalNorm = await this.#load(names.finalNorm);
    return { embedding, finalNorm, lmHead: await this.#load(names.lmHead), layers };
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

  async #load(name: string): Promise<Tensor> {
    const known = this.loaded.get(name);
    if (known) return known;
    const { shape, dtype, byteLength } = this.checkpoint.info(name);
    const tensor = this.scope.tensor(shape, dtype, name);
    const [rows = 1] = shape;
    const rowBytes = byteLength / Math.max(1, rows);
    // Pieces of an even number of rows: copies begin at multiples of four bytes.
    const piece = Math.max(2, 2 * Math.floor(PIECE / rowBytes / 2));
    for (let row = 0; row < rows; row += piece) {
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

  async #loadF32(name: string): Promise<Tensor> {
    const stored = await this.#load(name);
    if (stored.dtype === 'f32') return stored;
    const widened = this.scope.tensor(stored.shape, 'f32', name);
    convert(this.device.recorder, stored, widened);
    return widened;
  }
}
