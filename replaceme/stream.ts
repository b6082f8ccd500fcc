import { ensure, type Scope, type Tensor } from '../engine/index.js';
import type { LayerWeights, Model } from '../model/model.js';
import { embedTokens, forward } from '../model/transformer.js';
import { batchedTokens, type CalibrationBatch, openBatch } from './calibrationBatch.js';
import type { HiddenStates } from './hiddenStates.js';
import type { WalkOptions } from './walk.js';

export interface StreamOptions extends WalkOptions {
  /** Outputs of layers that an earlier walk has kept; they are used up. */
  readonly states?: HiddenStates | undefined;
}

/**
 * Hidden states of all calibration tokens at one depth of a model, batch by batch: all tokens walk through one layer
 * after the other. Two streams side by side hold what the original model and the pruned one give to a layer.
 */
export class Stream {
  /** Inputs of layer `depth`; undefined while they are the embeddings, which are looked up when needed. */
  readonly #states: (Tensor | undefined)[];
  #depth = 0;
  /** Whether the states are still those of the model as it is, which `states` holds too. */
  #unchanged = true;

  constructor(
    readonly model: Model,
    readonly batches: readonly CalibrationBatch[],
    readonly options: StreamOptions = {},
  ) {
    this.#states = batches.map(() => undefined);
  }

  /** The layer whose inputs these are. */
  get depth(): number {
    return this.#depth;
  }

  get tokens(): number {
    return batchedTokens(this.batches);
  }

  /** Input [T, hidden] of layer `depth` for batch `index`; it is the stream's, or made in `scope`. */
  input(index: number, scope: Scope): Tensor {
    if (this.#depth > 0) return this.state(index);
    using batch = openBatch(this.model.device, this.batches[index]!);
    return scope.own(embedTokens(this.model, batch));
  }

  /** The same beyond layer 0, where it is the stream's. */
  state(index: number): Tensor {
    const state = this.#states[index];
    ensure(state !== undefined, 'the stream has no states at the embeddings', 'Advance it first.');
    return state;
  }

  /** Puts another state in the place of a batch's, which is disposed. */
  replace(index: number, state: Tensor): void {
    this.#states[index]?.dispose();
    this.#states[index] = state;
  }

  /** Says that what `replace` has put there are the inputs of `layer`; `unchanged`: as the model itself makes them. */
  arriveAt(layer: number, unchanged = false): void {
    this.#unchanged &&= unchanged;
    this.#depth = layer;
  }

  /** Runs layers up to the inputs of layer `to`. */
  async advance(to: number): Promise<void> {
    if (to === this.#depth) return;
    await this.#run(this.model, to, (index, state) => this.replace(index, state));
    this.#depth = to;
  }

  /** Another stream, at the inputs of layer `to`; this one stays where it is. */
  async ahead(to: number): Promise<Stream> {
    const other = new Stream(this.model, this.batches, this.options);
    try {
      await this.#run(this.model, to, (index, state) => other.replace(index, state));
    } catch (error) {
      other.dispose();
      throw error;
    }
    other.#depth = to;
    return other;
  }

  /** Runs layer `depth` with other weights, to the inputs of layer `next`: the layers between are removed. */
  async step(weights: Partial<LayerWeights>, next: number): Promise<void> {
    const layer = this.#depth;
    const all = Array.from({ length: this.model.arch.layers }, (_, i) => i);
    const changed = this.model.withLayers(all, { layers: new Map([[layer, weights]]) });
    this.#unchanged = false;
    await this.#run(changed, layer + 1, (index, state) => this.replace(index, state));
    this.#depth = next;
  }

  async #run(model: Model, to: number, store: (index: number, state: Tensor) => void): Promise<void> {
    const { device } = model;
    const { onProgress, signal, states } = this.options;
    using _section = device.section('forward');
    const from = this.#depth;
    const total = this.tokens;
    let done = 0;
    for (const [index, batch] of this.batches.entries()) {
      signal?.throwIfAborted();
      using opened = openBatch(device, batch);
      const known = this.#unchanged ? states?.take(batch.sequences, to - 1) : undefined;
      const input = this.#states[index];
      store(index, known ?? forward(model, opened, { from, to, ...(input && { input }) }));
      // Without waiting, the host would record all batches before the device has run the first.
      await device.recorder.finish();
      done += opened.tokens;
      onProgress?.({
        phase: from + 1 === to ? `layer ${from}` : `layers ${from} to ${to - 1}`,
        done,
        total,
        unit: 'tokens',
      });
    }
  }

  dispose(): void {
    for (const state of this.#states.splice(0)) state?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
