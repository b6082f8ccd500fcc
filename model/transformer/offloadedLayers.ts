import { type Device, Scope } from '../../engine/index.js';
import type { TensorNames } from '../architecture/architecture.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { type SpilledWeights, toDevice } from './spilledWeights.js';
import { WeightLoader } from './weightLoader.js';
import type { LayerWeights } from './weights.js';

/** A layer that is on the device or on its way there. */
interface Arrival {
  readonly scope: Scope;
  readonly arrived: Promise<void>;
  /** Once it has arrived. */
  weights: LayerWeights | undefined;
  /** What takes the place of some of them, by what was asked for. */
  readonly changed: Map<SpilledWeights, Partial<LayerWeights>>;
  /** Nobody waits for it any more. */
  dropped: boolean;
}

/**
 * Layers that are read from a checkpoint when they are needed and let go afterwards: one is held, and the one that is
 * needed next arrives meanwhile, so that there are two on the device at most. Recorded work may still read a layer that
 * is let go: one queue runs everything in order, and the buffers are written again behind it.
 */
export class OffloadedLayers {
  readonly #layers = new Map<number, Arrival>();
  /** Layers that are known to hold no NaN. */
  readonly #sound = new Set<number>();
  #closed: Promise<void> | undefined;
  #held: number | undefined;
  #uploads = 0;

  /**
   * @param checkpoint is taken over.
   * @param prefetch whether the layer that follows arrives while one is held.
   */
  constructor(
    private readonly device: Device,
    private readonly checkpoint: Checkpoint,
    private readonly names: TensorNames,
    private readonly prefetch: boolean,
  ) {}

  /** Layers that have been uploaded so far; a layer counts every time. */
  get uploads(): number {
    return this.#uploads;
  }

  /** The layer that is held. @throws Error for any other: its walk has forgotten to hold it. */
  at(layer: number, changes?: SpilledWeights): LayerWeights {
    const held = layer === this.#held ? this.#layers.get(layer) : undefined;
    const changed = changes && held?.changed.get(changes);
    if (held?.weights && (changed || !changes)) return { ...held.weights, ...changed };
    throw new Error(
      `layer ${layer} is not on the device: the model's layers are streamed, and it is not held`,
    );
  }

  /**
   * Waits for a layer; all others are let go but `following`, which begins to arrive.
   *
   * @param changes what is to be there beside the layer's own weights, until it is let go.
   * @throws RmError CHECKPOINT_*, OUT_OF_MEMORY, NOT_FINITE (names the tensor).
   */
  async load(layer: number, following?: number, changes?: SpilledWeights): Promise<void> {
    const next = this.prefetch ? following : undefined;
    if (layer !== this.#held || next !== undefined) {
      for (const other of [...this.#layers.keys()]) {
        if (other !== layer && other !== next) this.#drop(other);
      }
    }
    if (layer !== this.#held) await this.#moveTo(layer);
    const { scope, changed } = this.#layers.get(layer)!;
    if (changes && !changed.has(changes)) changed.set(changes, await toDevice(this.device, changes, scope));
    if (next !== undefined && next !== layer) this.#arrive(next);
  }

  async #moveTo(layer: number): Promise<void> {
    this.#held = undefined;
    // What the last layer's walk has left in the pool would stand beside this one's; the driver gives a buffer's memory back
    // when the work that read it is done.
    await this.device.recorder.finish();
    this.device.memory.trim();
    try {
      await this.#arrive(layer).arrived;
    } catch (error) {
      this.#drop(layer);
      throw error;
    }
    this.#held = layer;
  }

  #drop(layer: number): void {
    const arrival = this.#layers.get(layer)!;
    this.#layers.delete(layer);
    arrival.dropped = true;
    // One that is still on its way frees its tensors when it notices.
    if (arrival.weights) arrival.scope.dispose();
  }

  #arrive(layer: number): Arrival {
    const known = this.#layers.get(layer);
    if (known) return known;
    const scope = new Scope(this.device);
    const arrival: Arrival = {
      scope,
      arrived: Promise.resolve().then(() => this.#load(layer, arrival)),
      weights: undefined,
      changed: new Map(),
      dropped: false,
    };
    // A failure is thrown where the layer is held.
    arrival.arrived.catch(() => {});
    this.#layers.set(layer, arrival);
    return arrival;
  }

  async #load(layer: number, arrival: Arrival): Promise<void> {
    const check = () => {
      if (arrival.dropped) throw new Error(`layer ${layer} is not needed any more`);
    };
    try {
      const loader = new WeightLoader(this.device, this.checkpoint, this.names, { check });
      const weights = await loader.layer(layer, arrival.scope);
      if (!this.#sound.has(layer)) await loader.verifyFinite();
      this.#sound.add(layer);
      check();
      this.#uploads++;
      arrival.weights = weights;
    } catch (error) {
      arrival.scope.dispose();
      throw error;
    }
  }

  /** Lets all layers go, and closes the checkpoint when nothing reads it any more. */
  close(): Promise<void> {
    if (!this.#closed) {
      const pending = [...this.#layers.values()].map(({ arrived }) => arrived);
      this.#held = undefined;
      for (const layer of [...this.#layers.keys()]) this.#drop(layer);
      this.#closed = Promise.allSettled(pending).then(() => this.checkpoint.close());
    }
    return this.#closed;
  }
}
