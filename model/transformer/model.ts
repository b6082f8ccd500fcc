import {
  checkArguments,
  type Device,
  type DType,
  ensure,
  flag,
  listOf,
  objectWith,
  oneOf,
  optional,
  Scope,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { type Architecture, expectedTensors, keepLayers } from '../architecture/architecture.js';
import { requireText } from '../architecture/modality.js';
import { aDevice, aPath, maybeDtype, maybeFunction, settingsAmong } from '../arguments/forms.js';
import { type Checkpoint, deviceBytes } from '../checkpoint/checkpoint.js';
import type { WeightDtype } from '../checkpoint/inDtype.js';
import { zeroCheckpoint } from '../checkpoint/zeroCheckpoint.js';
import { checkShapes } from '../families/index.js';
import { openCheckpoint } from '../source/openModelSource.js';
import { readArchitecture } from '../source/readArchitecture.js';
import { OffloadedLayers } from './offloadedLayers.js';
import { RotationTable } from './rotationTable.js';
import type { SpilledWeights } from './spilledWeights.js';
import { type LoaderOptions, WeightLoader } from './weightLoader.js';
import type { LayerWeights, Weights } from './weights.js';

/** Replacements for some of a model's weights. */
export interface WeightChanges extends Partial<Omit<Weights, 'layers' | 'vision'>> {
  /** By the model's layer index. */
  readonly layers?: ReadonlyMap<number, Partial<LayerWeights>>;
  /** For an offloaded model: weights that are read from disk and evicted together with their layer. */
  readonly spilled?: ReadonlyMap<number, SpilledWeights>;
}

/** Settings of `Model.load`. */
export interface LoadOptions extends Pick<LoaderOptions, 'reuse' | 'onProgress'> {
  /**
   * Offload the layers: `Model.loadLayer` uploads each one when it is needed and evicts it afterwards. At most two layers
   * are on the device (one without `prefetch`), so the model may exceed device memory (default: all layers stay there).
   */
  offload?: false | { readonly prefetch: boolean };
  /** Number type of the weights (default: the checkpoint's). */
  dtype?: WeightDtype;
  /** Accept an image encoder, which reads no text (default: reject it). */
  images?: true;
}

const loadSettings = settingsAmong<LoadOptions>({
  offload: (value, place) =>
    value === false ? undefined : optional(settingsAmong({ prefetch: flag }))(value, place),
  dtype: maybeDtype,
  images: optional(oneOf(true)),
  reuse: maybeFunction,
  onProgress: maybeFunction,
});

/** What a model shares with the models that `withLayers` derives from it. */
interface Origin {
  /** Loads the layers of an offloaded model. */
  readonly offloaded: OffloadedLayers | undefined;
  /** By layer of this model: the layer's index in `offloaded`, and replacements for some of its weights. */
  readonly numbers: readonly number[];
  readonly changed: ReadonlyMap<number, Partial<LayerWeights>>;
  readonly spilled: ReadonlyMap<number, SpilledWeights>;
  /** Number types of the checkpoint's tensors, by name. */
  readonly types: ReadonlyMap<string, DType>;
}

/** A transformer with its weights on the device: all of them or, if it is offloaded, those of the loaded layers. */
export class Model {
  private constructor(
    readonly device: Device,
    readonly arch: Architecture,
    readonly weights: Weights,
    readonly rotations: RotationTable,
    /** Tensors as stored, by checkpoint name; without those of offloaded layers. */
    readonly tensors: ReadonlyMap<string, Tensor>,
    private readonly origin: Origin,
    private readonly owned: Scope | undefined,
  ) {}

  /**
   * Loads a model: a folder (config.json and safetensors), a GGUF file or a name in the Hugging Face cache.
   *
   * @throws RmError CHECKPOINT_*, CONFIG_INVALID, UNSUPPORTED_FAMILY, OUT_OF_MEMORY, NOT_FINITE (names the tensor; for
   *   offloaded layers on their first load).
   */
  static async load(device: Device, folder: string, options: LoadOptions = {}): Promise<Model> {
    checkArguments(
      'Model.load',
      { device, folder, options },
      { device: aDevice, folder: aPath, options: loadSettings },
    );
    using _section = device.section('load');
    const arch = await readArchitecture(folder);
    if (!options.images) requireText(arch);
    const checkpoint = await openCheckpoint(folder, options.dtype);
    const scope = new Scope(device);
    let offloaded: OffloadedLayers | undefined;
    try {
      checkShapes(arch, checkpoint);
      const types = new Map(expectedTensors(arch).map(({ name }) => [name, checkpoint.info(name).dtype]));
      // Free pooled buffers of earlier work before the weights arrive.
      await device.reclaim();
      const loader = new WeightLoader(device, checkpoint, arch.tensorNames, {
        ...options,
        ...(options.offload && { totalBytes: outerBytes(arch, checkpoint) }),
      });
      const outer = await loader.outer(scope, arch.vision);
      const numbers = Array.from({ length: arch.layers }, (_, layer) => layer);
      const unchanged = { numbers, types, changed: new Map(), spilled: new Map() };
      let layers: readonly LayerWeights[];
      if (options.offload) {
        offloaded = new OffloadedLayers(device, checkpoint, arch.tensorNames, options.offload.prefetch);
        layers = layersOf(offloaded, unchanged);
      } else {
        const all: LayerWeights[] = [];
        for (let layer = 0; layer < arch.layers; layer++) all.push(await loader.layer(layer, scope));
        layers = all;
      }
      await loader.verifyFinite();
      await device.recorder.finish();
      const rotations = new RotationTable(device, arch);
      const origin = { offloaded, ...unchanged };
      return new Model(device, arch, { ...outer, layers }, rotations, loader.loaded, origin, scope);
    } catch (error) {
      scope.dispose();
      throw error;
    } finally {
      if (!offloaded) await checkpoint.close();
    }
  }

  /**
   * The first layer of a model, with zeros for weights, for measuring how fast it runs: `forward` from layer 0 to 1 with an
   * `input`. Nothing is read.
   *
   * @param checkpoint says in which number types the weights are.
   */
  static async zeroLayer(device: Device, whole: Architecture, checkpoint: Checkpoint): Promise<Model> {
    const scope = new Scope(device);
    try {
      const loader = new WeightLoader(device, zeroCheckpoint(checkpoint), whole.tensorNames);
      const layers = [await loader.layer(0, scope)];
      const none = scope.tensor([1]);
      const outer = { embedding: none, finalNorm: none, finalNormBias: undefined, lmHead: none };
      const arch = keepLayers(whole, [0]);
      const origin = {
        offloaded: undefined,
        numbers: [0],
        types: new Map(),
        changed: new Map(),
        spilled: new Map(),
      };
      const rotations = new RotationTable(device, arch);
      return new Model(device, arch, { ...outer, layers }, rotations, loader.loaded, origin, scope);
    } catch (error) {
      scope.dispose();
      throw error;
    }
  }

  /** Whether layers are offloaded: load each one by `loadLayer` before use, and take all tokens through it at a time. */
  get isOffloaded(): boolean {
    return this.origin.offloaded !== undefined;
  }

  /**
   * Loads layer `layer` of an offloaded model, evicts the others and prefetches `next`. Does nothing if the whole model is
   * on the device.
   *
   * @param next the layer to load after this one; may be past the last.
   * @throws RmError CHECKPOINT_*, OUT_OF_MEMORY, NOT_FINITE (names the tensor).
   */
  async loadLayer(layer: number, next?: number): Promise<void> {
    checkArguments(
      'loadLayer',
      { layer, next },
      { layer: whole(0, this.arch.layers - 1), next: optional(whole()) },
    );
    const { offloaded, numbers, spilled } = this.origin;
    const following = next === undefined ? undefined : numbers[next];
    await offloaded?.load(numbers[layer]!, following, spilled.get(layer));
  }

  /** Number of layer uploads so far, if layers are offloaded. */
  get layerUploads(): number {
    return this.origin.offloaded?.uploads ?? 0;
  }

  /** The number type of a tensor in the checkpoint. */
  typeOf(name: string): DType {
    const type = this.origin.types.get(name);
    ensure(
      type !== undefined,
      `the checkpoint has no tensor '${String(name)}'`,
      'Take a name of its `tensors`.',
    );
    return type;
  }

  /**
   * Returns the model with only the layers `keep` (ascending) and with `changes`; it shares all other tensors, so removing
   * layers costs no memory. Disposing it frees nothing, and it must not outlive this model.
   */
  withLayers(keep: readonly number[], changes: WeightChanges = {}): Model {
    checkArguments(
      'withLayers',
      { keep, changes },
      { keep: listOf(whole(0, this.arch.layers - 1)), changes: objectWith('an object of changes') },
    );
    const { layers, spilled, ...outer } = changes;
    const arch = keepLayers(this.arch, keep);
    const { offloaded, numbers, types } = this.origin;
    const merged = <W extends object>(before: ReadonlyMap<number, W>, now?: ReadonlyMap<number, W>) =>
      new Map(
        keep.flatMap((layer, at) => {
          const versions = [before.get(layer), now?.get(layer)].filter(weights => weights !== undefined);
          // Keep the same object, so that models sharing it upload it once.
          return versions.length === 0
            ? []
            : [[at, versions.length === 1 ? versions[0]! : { ...versions[0], ...versions[1] }]];
        }) as [number, W][],
      );
    const origin = {
      offloaded,
      numbers: keep.map(layer => numbers[layer]!),
      types,
      changed: merged(this.origin.changed, layers),
      spilled: merged(this.origin.spilled, spilled),
    };
    const own = offloaded
      ? layersOf(offloaded, origin)
      : keep.map(layer => ({ ...this.weights.layers[layer]!, ...layers?.get(layer) }));
    const weights = { ...this.weights, ...outer, layers: own };
    return new Model(this.device, arch, weights, this.rotations, this.tensors, origin, undefined);
  }

  /** Frees the weights, unless they belong to another model. */
  dispose(): void {
    if (!this.owned) return;
    this.owned.dispose();
    this.rotations.dispose();
    this.origin.offloaded?.close().catch(() => {});
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** `dispose`, for `await using`; also waits until the checkpoint's files are closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    if (this.owned) await this.origin.offloaded?.close();
  }
}

/** Bytes of the tensors outside the layers. */
const outerBytes = (arch: Architecture, checkpoint: Checkpoint): number =>
  expectedTensors(arch)
    .filter(({ layer }) => layer === null)
    .reduce((sum, { name }) => sum + deviceBytes(checkpoint.info(name)), 0);

/** An array of layers that looks each one up among the offloaded layers on access. */
function layersOf(
  offloaded: OffloadedLayers,
  { numbers, changed, spilled }: Omit<Origin, 'offloaded'>,
): readonly LayerWeights[] {
  const layers = new Array<LayerWeights>(numbers.length);
  for (const [layer, number] of numbers.entries()) {
    const get = () => ({ ...offloaded.at(number, spilled.get(layer)), ...changed.get(layer) });
    Object.defineProperty(layers, layer, { get, enumerable: true });
  }
  return layers;
}
