import { type Device, type DType, Scope, type Tensor } from '../../engine/index.js';
import { type Architecture, expectedTensors, keepLayers } from '../architecture/architecture.js';
import { requireText } from '../architecture/modality.js';
import { type Checkpoint, deviceBytes } from '../checkpoint/checkpoint.js';
import type { WeightDtype } from '../checkpoint/inDtype.js';
import { checkShapes } from '../families/index.js';
import { openCheckpoint } from '../source/openModelSource.js';
import { readArchitecture } from '../source/readArchitecture.js';
import { OffloadedLayers } from './offloadedLayers.js';
import { RotationTable } from './rotationTable.js';
import type { SpilledWeights } from './spilledWeights.js';
import { type LoaderOptions, WeightLoader } from './weightLoader.js';
import type { LayerWeights, Weights } from './weights.js';

/** Weights that take the place of a model's own. */
export interface WeightChanges extends Partial<Omit<Weights, 'layers' | 'vision'>> {
  /** By layer, as the model counts them. */
  readonly layers?: ReadonlyMap<number, Partial<LayerWeights>>;
  /** Of a streamed model: weights that come from the disk with their layer, and go with it. */
  readonly spilled?: ReadonlyMap<number, SpilledWeights>;
}

/** Settings of `Model.load`. */
export interface LoadOptions extends Pick<LoaderOptions, 'reuse' | 'onProgress'> {
  /**
   * Layers are read and uploaded when they are held (`Model.hold`) and let go afterwards, two at a time at most (one
   * without `prefetch`), so that the model may be larger than the device's memory (default: all stay on the device).
   */
  stream?: false | { readonly prefetch: boolean };
  /** Number type of the weights (default: that of the checkpoint). */
  dtype?: WeightDtype;
  /** The model may be an encoder of images, which no text can be given to (default: such models are refused). */
  images?: true;
}

/** What a model that is made from another has of it. */
interface Origin {
  /** Where layers come from that are not on the device. */
  readonly stream: OffloadedLayers | undefined;
  /** By layer of this model: the layer of the stream, and what takes the place of some of its weights. */
  readonly numbers: readonly number[];
  readonly changed: ReadonlyMap<number, Partial<LayerWeights>>;
  readonly spilled: ReadonlyMap<number, SpilledWeights>;
  /** Number types of the checkpoint's tensors, by name. */
  readonly types: ReadonlyMap<string, DType>;
}

/** A transformer whose weights are on the device: all of them, or those of the layers that are held. */
export class Model {
  private constructor(
    readonly device: Device,
    readonly arch: Architecture,
    readonly weights: Weights,
    readonly rotations: RotationTable,
    /** Tensors as stored, by checkpoint name; without those of the layers, where these are streamed. */
    readonly tensors: ReadonlyMap<string, Tensor>,
    private readonly origin: Origin,
    private readonly owned: Scope | undefined,
  ) {}

  /**
   * Loads a model: a folder (config.json and safetensors), a GGUF file or a name in the Hugging Face cache.
   *
   * @throws RmError CHECKPOINT_*, CONFIG_INVALID, UNSUPPORTED_FAMILY, OUT_OF_MEMORY, NOT_FINITE (names the tensor; for
   *   layers that are streamed when they are first held).
   */
  static async load(device: Device, folder: string, options: LoadOptions = {}): Promise<Model> {
    using _section = device.section('load');
    const arch = await readArchitecture(folder);
    if (!options.images) requireText(arch);
    const checkpoint = await openCheckpoint(folder, options.dtype);
    const scope = new Scope(device);
    let stream: OffloadedLayers | undefined;
    try {
      checkShapes(arch, checkpoint);
      const types = new Map(expectedTensors(arch).map(({ name }) => [name, checkpoint.info(name).dtype]));
      // What earlier work left in the pool would stand beside the weights.
      device.memory.trim();
      const loader = new WeightLoader(device, checkpoint, arch.tensorNames, {
        ...options,
        ...(options.stream && { totalBytes: outerBytes(arch, checkpoint) }),
      });
      const outer = await loader.outer(scope, arch.vision?.tensorNames);
      const numbers = Array.from({ length: arch.layers }, (_, layer) => layer);
      const unchanged = { numbers, types, changed: new Map(), spilled: new Map() };
      let layers: readonly LayerWeights[];
      if (options.stream) {
        stream = new OffloadedLayers(device, checkpoint, arch.tensorNames, options.stream.prefetch);
        layers = layersOf(stream, unchanged);
      } else {
        const all: LayerWeights[] = [];
        for (let layer = 0; layer < arch.layers; layer++) all.push(await loader.layer(layer, scope));
        layers = all;
      }
      await loader.verifyFinite();
      await device.recorder.finish();
      const rotations = new RotationTable(device, arch);
      const origin = { stream, ...unchanged };
      return new Model(device, arch, { ...outer, layers }, rotations, loader.loaded, origin, scope);
    } catch (error) {
      scope.dispose();
      throw error;
    } finally {
      if (!stream) await checkpoint.close();
    }
  }

  /** Whether layers come and go: those that are needed must be held, and walks go layer by layer over all tokens. */
  get isOffloaded(): boolean {
    return this.origin.stream !== undefined;
  }

  /**
   * Brings a layer to the device, where layers are streamed; all others are let go but `next`, which begins to arrive
   * while this one computes. Nothing to do for a model that is on the device as a whole.
   *
   * @param next the layer that will be held after this one; it may be past the last one.
   * @throws RmError CHECKPOINT_*, OUT_OF_MEMORY, NOT_FINITE (names the tensor).
   */
  async loadLayer(layer: number, next?: number): Promise<void> {
    const { stream, numbers, spilled } = this.origin;
    const following = next === undefined ? undefined : numbers[next];
    await stream?.load(numbers[layer]!, following, spilled.get(layer));
  }

  /** Layers uploaded so far where they are streamed; a layer counts every time. */
  get layerUploads(): number {
    return this.origin.stream?.uploads ?? 0;
  }

  /** The number type of a tensor in the checkpoint. */
  typeOf(name: string): DType {
    return this.origin.types.get(name)!;
  }

  /**
   * The model with only the layers `keep` (ascending) and with `changes`, sharing all other tensors: disposing it frees
   * nothing, and it must not outlive this one.
   */
  withLayers(keep: readonly number[], { layers, spilled, ...outer }: WeightChanges = {}): Model {
    const arch = keepLayers(this.arch, keep);
    const { stream, numbers, types } = this.origin;
    const merged = <W extends object>(before: ReadonlyMap<number, W>, now?: ReadonlyMap<number, W>) =>
      new Map(
        keep.flatMap((layer, at) => {
          const known = [before.get(layer), now?.get(layer)].filter(weights => weights !== undefined);
          // What is the same object is uploaded once, for whatever models.
          return known.length === 0
            ? []
            : [[at, known.length === 1 ? known[0]! : { ...known[0], ...known[1] }]];
        }) as [number, W][],
      );
    const origin = {
      stream,
      numbers: keep.map(layer => numbers[layer]!),
      types,
      changed: merged(this.origin.changed, layers),
      spilled: merged(this.origin.spilled, spilled),
    };
    const own = stream
      ? layersOf(stream, origin)
      : keep.map(layer => ({ ...this.weights.layers[layer]!, ...layers?.get(layer) }));
    const weights = { ...this.weights, ...outer, layers: own };
    return new Model(this.device, arch, weights, this.rotations, this.tensors, origin, undefined);
  }

  /** Frees the weights; nothing, where the model shares those of another. */
  dispose(): void {
    if (!this.owned) return;
    this.owned.dispose();
    this.rotations.dispose();
    this.origin.stream?.close().catch(() => {});
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** `dispose`, and waits until the checkpoint's files are closed: `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    if (this.owned) await this.origin.stream?.close();
  }
}

/** Bytes of the tensors that are no layer's. */
const outerBytes = (arch: Architecture, checkpoint: Checkpoint): number =>
  expectedTensors(arch)
    .filter(({ layer }) => layer === null)
    .reduce((sum, { name }) => sum + deviceBytes(checkpoint.info(name)), 0);

/** Layers that are looked up in the stream when they are read. */
function layersOf(
  stream: OffloadedLayers,
  { numbers, changed, spilled }: Omit<Origin, 'stream'>,
): readonly LayerWeights[] {
  const layers = new Array<LayerWeights>(numbers.length);
  for (const [layer, number] of numbers.entries()) {
    const get = () => ({ ...stream.at(number, spilled.get(layer)), ...changed.get(layer) });
    Object.defineProperty(layers, layer, { get, enumerable: true });
  }
  return layers;
}
