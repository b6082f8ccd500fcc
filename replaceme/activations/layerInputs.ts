import {
  ensure,
  type Journal,
  type LiveState,
  noJournal,
  type Scope,
  type Tensor,
} from '../../engine/index.js';
import {
  BatchTensors,
  embedTokens,
  forward,
  type LayerWeights,
  type Model,
  type StatePlacement,
} from '../../model/index.js';
import { batchedTokens, type CalibrationBatch, openBatch } from '../calibration/calibrationBatch.js';
import { forEachBatch } from '../calibration/forEachBatch.js';
import type { RunHooks } from '../run/runHooks.js';
import type { HiddenStates } from './hiddenStates.js';

interface LayerInputOptions extends RunHooks {
  /** Layer outputs that an earlier pass kept; they are used up. */
  readonly states?: HiddenStates | undefined;
  /** Where the hidden states of all tokens are kept (default: on the device). */
  readonly placement?: StatePlacement | undefined;
}

/**
 * The inputs of one layer for all calibration tokens, batch by batch. Moving on runs all tokens through one layer, then
 * through the next. Two of these side by side hold what the original model and the pruned one feed to a layer.
 */
export class LayerInputs implements LiveState {
  /** Inputs of layer `depth`; empty at depth 0, where the embeddings are looked up when needed. */
  readonly #states: BatchTensors;
  #depth = 0;
  /** Whether the states still come from the unchanged model, so that `options.states` holds the same. */
  #unchanged = true;
  readonly #journal: Journal;
  #tracking: Disposable | undefined;

  constructor(
    readonly model: Model,
    readonly batches: readonly CalibrationBatch[],
    readonly options: LayerInputOptions = {},
  ) {
    this.#states = new BatchTensors(model.device, options.placement);
    this.#journal = options.journal ?? noJournal;
  }

  /** Starts at the embeddings, or where an earlier process stopped. */
  static async open(
    model: Model,
    batches: readonly CalibrationBatch[],
    options: LayerInputOptions,
    name: string,
  ): Promise<LayerInputs> {
    const inputs = new LayerInputs(model, batches, options);
    try {
      inputs.#tracking = await inputs.#journal.track(name, inputs);
      return inputs;
    } catch (error) {
      inputs.dispose();
      throw error;
    }
  }

  async save(): Promise<unknown> {
    return { depth: this.#depth, unchanged: this.#unchanged, states: await this.#states.save() };
  }

  async restore(saved: {
    readonly depth: number;
    readonly unchanged: boolean;
    readonly states: never;
  }): Promise<void> {
    this.#depth = saved.depth;
    this.#unchanged = saved.unchanged;
    await this.#states.restore(saved.states);
  }

  /** The layer whose inputs these are. */
  get depth(): number {
    return this.#depth;
  }

  get tokens(): number {
    return batchedTokens(this.batches);
  }

  /** Input [T, hidden] of layer `depth` for batch `index`; owned by this object or by `scope`. */
  async input(index: number, scope: Scope): Promise<Tensor> {
    if (this.#depth > 0) return await this.state(index, scope);
    using batch = openBatch(this.model.device, this.batches[index]!);
    return scope.own(embedTokens(this.model, batch));
  }

  /** Like `input`, for depths above 0. */
  async state(index: number, scope: Scope): Promise<Tensor> {
    ensure(this.#states.has(index), 'there are no hidden states at the embeddings', 'Advance first.');
    return await this.#states.get(index, scope);
  }

  /** Replaces a batch's state and takes ownership of the new one. */
  replace(index: number, state: Tensor): void {
    this.#states.put(index, state);
  }

  /** Declares that the replaced states are the inputs of `layer`; `unchanged`: the unchanged model computed them. */
  arriveAt(layer: number, unchanged = false): void {
    this.#unchanged &&= unchanged;
    this.#depth = layer;
  }

  /** Runs the layers up to the inputs of layer `to`. */
  async advance(to: number): Promise<void> {
    await this.#journal.step(`to layer ${to}`, async () => {
      if (to === this.#depth) return;
      await this.#run(this.model, to, this);
      this.#depth = to;
    });
  }

  /** New inputs, of layer `to`; these stay where they are. */
  async ahead(to: number): Promise<LayerInputs> {
    const later = await LayerInputs.open(this.model, this.batches, this.options, 'states ahead');
    try {
      await this.#journal.step(`ahead to layer ${to}`, async () => {
        await this.#run(this.model, to, later);
        later.#depth = to;
      });
      return later;
    } catch (error) {
      later.dispose();
      throw error;
    }
  }

  /** New inputs of the same layer, which use up no states of an earlier pass. */
  async copy(): Promise<LayerInputs> {
    const { device } = this.model;
    const options = { ...this.options, states: undefined };
    const copied = await LayerInputs.open(this.model, this.batches, options, 'states copied');
    try {
      await this.#journal.step('copy', async () => {
        copied.#depth = this.#depth;
        if (this.#depth === 0) return;
        await forEachBatch(device, this.options, 'copy', this.batches, async ({ index, scope }) => {
          const state = await this.state(index, scope);
          const copy = scope.tensor(state.shape, 'f32', state.label);
          device.recorder.copy(state, copy);
          copied.replace(index, scope.release(copy));
        });
      });
      return copied;
    } catch (error) {
      copied.dispose();
      throw error;
    }
  }

  /** Runs layer `depth` with other weights and jumps to the inputs of layer `next`: the layers between are removed. */
  async step(weights: Partial<LayerWeights>, next: number): Promise<void> {
    await this.#journal.step(`past layers to ${next}`, async () => {
      const layer = this.#depth;
      const all = Array.from({ length: this.model.arch.layers }, (_, i) => i);
      const changed = this.model.withLayers(all, { layers: new Map([[layer, weights]]) });
      this.#unchanged = false;
      await this.#run(changed, layer + 1, this);
      this.#depth = next;
    });
  }

  /** Runs the layers up to `to` and puts their outputs into `target`. */
  async #run(model: Model, to: number, target: LayerInputs): Promise<void> {
    // Offloaded layers run one at a time, each over all tokens, so that each is uploaded once.
    const step = model.isOffloaded ? 1 : to - this.#depth;
    let source: LayerInputs = this;
    for (let from = this.#depth; from < to; from += step) {
      const end = from + step;
      await this.#pass(model, { from, to: end, next: end < to ? end : undefined }, source, target);
      source = target;
    }
  }

  /** Runs all tokens through layers from .. to-1 and prefetches layer `next`. */
  async #pass(
    model: Model,
    { from, to, next }: { from: number; to: number; next: number | undefined },
    source: LayerInputs,
    target: LayerInputs,
  ): Promise<void> {
    const { device } = model;
    const { states } = this.options;
    using _section = device.section('forward');
    const name = from + 1 === to ? `layer ${from}` : `layers ${from} to ${to - 1}`;
    await forEachBatch(device, this.options, name, this.batches, async ({ batch, index, opened, scope }) => {
      await model.loadLayer(from, next);
      const kept = this.#unchanged ? states?.take(batch.sequences, to - 1) : undefined;
      const input = kept || from === 0 ? undefined : await source.state(index, scope);
      target.replace(index, kept ?? forward(model, opened, { from, to, ...(input && { input }) }));
    });
  }

  dispose(): void {
    this.#tracking?.[Symbol.dispose]();
    this.#states.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
