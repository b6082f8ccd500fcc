import {
  type Device,
  type Progress,
  type ReadInto,
  RmError,
  type Scope,
  type Tensor,
} from '../../engine/index.js';
import { convert } from '../../kernels/index.js';
import {
  isStack,
  refKey,
  storedName,
  type TensorNames,
  type TensorRef,
  type VisionInput,
} from '../architecture/architecture.js';
import type { Checkpoint, TensorInfo } from '../checkpoint/checkpoint.js';
import { uploadStored } from '../checkpoint/denseTensor.js';
import { joinedRuns } from '../checkpoint/joinedReads.js';
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

/** A tensor whose bytes arrive. */
interface Filling {
  readonly tensor: Tensor;
  readonly filled: Promise<void>;
}

/** Reads tensors straight into the memory that the device copies from, and counts NaN and infinity on the device. */
export class WeightLoader {
  /** Loaded tensors in the checkpoint's number type, by refKey. */
  readonly loaded = new Map<string, Tensor>();
  readonly #filled = new Map<string, Filling>();
  #bytes = 0;

  constructor(
    private readonly device: Device,
    private readonly checkpoint: Checkpoint,
    private readonly names: TensorNames,
    private readonly options: LoaderOptions = {},
  ) {}

  /** Loads the weights outside the layers into `scope`. */
  async outer(scope: Scope, vision: VisionInput | null): Promise<Omit<Weights, 'layers'>> {
    const { embedding, finalNorm, finalNormBias, lmHead, lmHeadBias = null } = this.names;
    const names = { embedding, finalNorm, finalNormBias, lmHead, lmHeadBias };
    const outer = await this.#loadAll(undefined, names, scope);
    return {
      ...(outer as Omit<Weights, 'layers' | 'vision'>),
      ...(vision && { vision: await this.#vision(vision, scope) }),
    };
  }

  async #vision({ tensorNames, pooling }: VisionInput, scope: Scope): Promise<VisionWeights> {
    const before = await this.#loadAll(undefined, { ...tensorNames }, scope);
    if (typeof pooling === 'string') return { ...before, head: undefined } as VisionWeights;
    const { probe } = await this.#loadAll(undefined, { probe: pooling.probe }, scope);
    const layer = await this.#loadAll(undefined, { ...pooling.layer }, scope);
    return { ...before, head: { probe, layer } } as VisionWeights;
  }

  /** Loads one layer's weights into `scope`. */
  async layer(index: number, scope: Scope): Promise<LayerWeights> {
    return (await this.#loadAll(index, this.names.layers[index]!, scope)) as LayerWeights;
  }

  /** Loads the named tensors, two at a time, and returns them under the same keys. */
  async #loadAll<K extends string>(
    layer: number | undefined,
    names: Readonly<Partial<Record<K, TensorRef | null>>>,
    scope: Scope,
  ): Promise<Record<K, Tensor | undefined>> {
    const tensors: Partial<Record<K, Tensor | undefined>> = {};
    const fills: Promise<void>[] = [];
    try {
      for (const [key, ref] of Object.entries(names) as [K, TensorRef | null][]) {
        if (ref === null) continue;
        const { tensor, filled } = await this.#load(layer, key, ref, scope);
        tensors[key] = tensor;
        filled.catch(() => {});
        fills.push(filled);
        await fills.at(-2);
      }
      await fills.at(-1);
    } finally {
      // The caller may free the tensors after an error.
      await Promise.allSettled(fills);
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

  /** Begins to load a tensor as models expect it: biases in f32. */
  async #load(layer: number | undefined, key: string, ref: TensorRef, scope: Scope): Promise<Filling> {
    const name = refKey(ref);
    const reused = typeof ref === 'string' ? await this.options.reuse?.({ layer, key }, ref) : undefined;
    const known = this.#filled.get(name);
    const stored = known ?? (reused ? { tensor: reused, filled: Promise.resolve() } : this.#read(ref, scope));
    this.#filled.set(name, stored);
    this.loaded.set(name, stored.tensor);
    const { tensor } = stored;
    if (!key.endsWith('Bias') || tensor.dtype === 'f32') return stored;
    const widened = scope.weights(tensor.shape, 'f32', tensor.label);
    const filled = stored.filled.then(() => convert(this.device.recorder, tensor, widened));
    return { tensor: widened, filled };
  }

  #read(ref: TensorRef, scope: Scope): Filling {
    const names = isStack(ref) ? ref.names : [storedName(ref)];
    const info = this.checkpoint.info(names[0]!);
    if (isStack(ref)) this.#requireAlike(info, names);
    const [stored = 1, ...rest] = info.shape;
    const rowBytes = info.byteLength / Math.max(1, stored);
    if (isStack(ref)) {
      const read = joinedRuns(info.byteLength, (target, n, within) =>
        this.checkpoint.readInto(names[n]!, within, target),
      );
      return this.#fill(info, [names.length * stored, ...rest], rowBytes, read, scope);
    }
    const part = typeof ref === 'string' ? { first: 0, count: stored, stride: stored, runs: 1 } : ref;
    const read = joinedRuns(part.count * rowBytes, (target, run, within) =>
      this.checkpoint.readInto(names[0]!, (part.first + run * part.stride) * rowBytes + within, target),
    );
    return this.#fill(info, [part.runs * part.count, ...rest], rowBytes, read, scope);
  }

  /** The matrices of a stack are read as one. @throws RmError UNSUPPORTED_DTYPE naming one that is stored in another way. */
  #requireAlike(first: TensorInfo, names: readonly string[]): void {
    const formOf = ({ dtype, byteLength, blocks }: TensorInfo) => JSON.stringify([dtype, byteLength, blocks]);
    const other = names.find(name => formOf(this.checkpoint.info(name)) !== formOf(first));
    if (other === undefined) return;
    throw new RmError(
      'UNSUPPORTED_DTYPE',
      `${this.checkpoint.path}: tensors ${first.name} and ${other} of one layer are stored in different ways`,
      'Save all experts of a layer in one number type, or compressed with the same settings.',
    );
  }

  #fill(info: TensorInfo, shape: readonly number[], rowBytes: number, read: ReadInto, scope: Scope): Filling {
    const tensor = scope.weights(shape, info.dtype, info.name);
    const checked: ReadInto = (target, at) => {
      this.options.check?.();
      return read(target, at);
    };
    const filled = uploadStored(info, rowBytes, checked, tensor).then(() => this.#count(tensor));
    return { tensor, filled };
  }

  #count({ byteLength }: Tensor): void {
    this.#bytes += byteLength;
    const total = this.options.totalBytes ?? this.checkpoint.totalBytes;
    this.options.onProgress?.({ phase: 'load', done: this.#bytes, total, unit: 'bytes' });
  }
}
