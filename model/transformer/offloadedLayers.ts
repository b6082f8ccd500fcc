import { type Device, Scope } from '../../engine/index.js';
import type { TensorNames } from '../architecture/architecture.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { type SpilledWeights, toDevice } from './spilledWeights.js';
import { WeightLoader } from './weightLoader.js';
import type { LayerWeights } from './weights.js';

/** A layer that is on the device or being uploaded. */
interface Arrival {
  readonly scope: Scope;
  readonly arrived: Promise<void>;
  /** Set once it has arrived. */
  weights: LayerWeights | undefined;
  /** Uploaded replacements of some weights, by the spilled weights they come from. */
  readonly changed: Map<SpilledWeights, Partial<LayerWeights>>;
  /** Evicted before it arrived. */
  evicted: boolean;
}

/**
 * Loads layers from the checkpoint when they are needed and evicts them afterwards. One layer is current and the next one
 * is prefetched, so at most two are on the device. Recorded work may still read an evicted layer: one queue runs everything
 * in order, so its buffers are overwritten only later.
 */
export class OffloadedLayers {
  readonly #layers = new Map<number, Arrival>();
  /** Layers that were checked for NaN. */
  readonly #finite = new Set<number>();
  #closed: Promise<void> | undefined;
  #current: number | undefined;
  #uploads = 0;

  /**
   * @param checkpoint closed by `close`.
   * @param prefetch whether to upload the next layer while the current one computes.
   */
  constructor(
    private readonly device: Device,
    private readonly checkpoint: Checkpoint,
    private readonly names: TensorNames,
    private readonly prefetch: boolean,
  ) {}

  /** Number of layer uploads so far. */
  get uploads(): number {
    return this.#uploads;
  }

  /** Returns the current layer. @throws Error for any other layer: the caller forgot to load it. */
  at(layer: number, changes?: SpilledWeights): LayerWeights {
    const current = layer === this.#current ? this.#layers.get(layer) : undefined;
    const changed = changes && current?.changed.get(changes);
    if (current?.weights && (changed || !changes)) return { ...current.weights, ...changed };
    throw new Error(
      `layer ${layer} is not on the device: the model is offloaded, and loadLayer was not called`,
    );
  }

  /**
   * Loads a layer, evicts the others and prefetches `following`.
   *
   * @param changes weights to upload besides the layer's own, until it is evicted.
   * @throws RmError CHECKPOINT_*, OUT_OF_MEMORY, NOT_FINITE (names the tensor).
   */
  async load(layer: number, following?: number, changes?: SpilledWeights): Promise<void> {
    const next = this.prefetch ? following : undefined;
    if (layer !== this.#current || next !== undefined) {
      for (const other of [...this.#layers.keys()]) {
        if (other !== layer && other !== next) this.#evict(other);
      }
    }
    if (layer !== this.#current) await this.#moveTo(layer);
    const { scope, changed } = this.#layers.get(layer)!;
    if (changes && !changed.has(changes)) changed.set(changes, await toDevice(this.device, changes, scope));
    if (next !== undefined && next !== layer) this.#startLoading(next);
  }

  async #moveTo(layer: number): Promise<void> {
    this.#current = undefined;
    // The previous layer's buffers make room first.
    await this.device.recorder.finish();
    await this.device.reclaim();
    try {
      await this.#startLoading(layer).arrived;
    } catch (error) {
      this.#evict(layer);
      throw error;
    }
    this.#current = layer;
  }

  #evict(layer: number): void {
    const arrival = this.#layers.get(layer)!;
    this.#layers.delete(layer);
    arrival.evicted = true;
    // A layer still being uploaded frees its tensors when it notices.
    if (arrival.weights) arrival.scope.dispose();
  }

  #startLoading(layer: number): Arrival {
    const existing = this.#layers.get(layer);
    if (existing) return existing;
    const scope = new Scope(this.device);
    const arrival: Arrival = {
      scope,
      arrived: Promise.resolve().then(() => this.#load(layer, arrival)),
      weights: undefined,
      changed: new Map(),
      evicted: false,
    };
    // `load` throws the failure.
    arrival.arrived.catch(() => {});
    this.#layers.set(layer, arrival);
    return arrival;
  }

  async #load(layer: number, arrival: Arrival): Promise<void> {
    const check = () => {
      if (arrival.evicted) throw new Error(`layer ${layer} is not needed any more`);
    };
    try {
      const loader = new WeightLoader(this.device, this.checkpoint, this.names, { check });
      const weights = await loader.layer(layer, arrival.scope);
      if (!this.#finite.has(layer)) await loader.verifyFinite();
      this.#finite.add(layer);
      check();
      this.#uploads++;
      arrival.weights = weights;
    } catch (error) {
      arrival.scope.dispose();
      throw error;
    }
  }

  /** Evicts all layers, and closes the checkpoint once nothing reads it. */
  close(): Promise<void> {
    if (!this.#closed) {
      const pending = [...this.#layers.values()].map(({ arrived }) => arrived);
      this.#current = undefined;
      for (const layer of [...this.#layers.keys()]) this.#evict(layer);
      this.#closed = Promise.allSettled(pending).then(() => this.checkpoint.close());
    }
    return this.#closed;
  }
}
