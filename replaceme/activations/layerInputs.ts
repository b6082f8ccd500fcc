import { ensure, type Journal, type LiveState, noJournal, Scope, type Tensor } from '../../engine/index.js';
import {
  BatchTensors,
  embedTokens,
  forward,
  type LayerWeights,
  type Model,
  type StatePlacement,
} from '../../model/index.js';
import {
  batchedTokens,
  type CalibrationBatch,
  openBatch,
  sequencesOf,
} from '../calibration/calibrationBatch.js';
import { forEachGroup, type RunHooks } from '../run/runHooks.js';
import type { HiddenStates } from './hiddenStates.js';

export interface LayerInputOptions extends RunHooks {
  /** Outputs of layers that an earlier walk has kept; they are used up. */
  readonly states?: HiddenStates | undefined;
  /** Where hidden states of all tokens are kept (default: on the device). */
  readonly placement?: StatePlacement | undefined;
}

/**
 * Hidden states of all calibration tokens at one depth of a model, batch by batch: all tokens walk through one layer
 * after the other. Two streams side by side hold what the original model and the pruned one give to a layer.
 */
export class LayerInputs implements LiveState {
  /** Inputs of layer `depth`; none while they are the embeddings, which are looked up when needed. */
  readonly #states: BatchTensors;
  #depth = 0;
  /** Whether the states are still those of the model as it is, which `states` holds too. */
  #unchanged = true;
  readonly #journal: Journal;
  #held: Disposable | undefined;

  constructor(
    readonly model: Model,
    readonly batches: readonly CalibrationBatch[],
    readonly options: LayerInputOptions = {},
  ) {
    this.#states = new BatchTensors(model.device, options.placement);
    this.#journal = options.journal ?? noJournal;
  }

  /** At the embeddings, or where an earlier process has left it. */
  static async open(
    model: Model,
    batches: readonly CalibrationBatch[],
    options: LayerInputOptions,
    name: string,
  ): Promise<LayerInputs> {
    const stream = new LayerInputs(model, batches, options);
    try {
      stream.#held = await stream.#journal.track(name, stream);
      return stream;
    } catch (error) {
      stream.dispose();
      throw error;
    }
  }

  save(): unknown {
    return { depth: this.#depth, unchanged: this.#unchanged, states: this.#states.save() };
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

  /** Input [T, hidden] of layer `depth` for batch `index`; it is the stream's, or made in `scope`. */
  async input(index: number, scope: Scope): Promise<Tensor> {
    if (this.#depth > 0) return await this.state(index, scope);
    using batch = openBatch(this.model.device, this.batches[index]!);
    return scope.own(embedTokens(this.model, batch));
  }

  /** The same beyond layer 0. */
  async state(index: number, scope: Scope): Promise<Tensor> {
    ensure(this.#states.has(index), 'the stream has no states at the embeddings', 'Advance it first.');
    return await this.#states.get(index, scope);
  }

  /** Puts another state in the place of a batch's; it is taken over. */
  async replace(index: number, state: Tensor): Promise<void> {
    await this.#states.put(index, state);
  }

  /** Says that what `replace` has put there are the inputs of `layer`; `unchanged`: as the model itself makes them. */
  arriveAt(layer: number, unchanged = false): void {
    this.#unchanged &&= unchanged;
    this.#depth = layer;
  }

  /** Runs layers up to the inputs of layer `to`. */
  async advance(to: number): Promise<void> {
    await this.#journal.step(`to layer ${to}`, async () => {
      if (to === this.#depth) return;
      await this.#run(this.model, to, this);
      this.#depth = to;
    });
  }

  /** Another stream, at the inputs of layer `to`; this one stays where it is. */
  async ahead(to: number): Promise<LayerInputs> {
    const other = await LayerInputs.open(this.model, this.batches, this.options, 'states ahead');
    try {
      await this.#journal.step(`ahead to layer ${to}`, async () => {
        await this.#run(this.model, to, other);
        other.#depth = to;
      });
      return other;
    } catch (error) {
      other.dispose();
      throw error;
    }
  }

  /** Runs layer `depth` with other weights, to the inputs of layer `next`: the layers between are removed. */
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

  /** Runs layers up to `to`; their outputs go to `target`. */
  async #run(model: Model, to: number, target: LayerInputs): Promise<void> {
    // Where layers are streamed, all tokens go through one before the next takes its place.
    const step = model.isOffloaded ? 1 : to - this.#depth;
    let source: LayerInputs = this;
    for (let from = this.#depth; from < to; from += step) {
      const end = from + step;
      await this.#pass(model, { from, to: end, next: end < to ? end : undefined }, source, target);
      source = target;
    }
  }

  /** All tokens through layers from .. to-1; `next` is needed after them. */
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
    await forEachGroup(this.options, name, this.batches, sequencesOf, async (batch, index) => {
      await model.loadLayer(from, next);
      using opened = openBatch(device, batch);
      using scope = new Scope(device);
      const known = this.#unchanged ? states?.take(batch.sequences, to - 1) : undefined;
      const input = known || from === 0 ? undefined : await source.state(index, scope);
      await target.replace(index, known ?? forward(model, opened, { from, to, ...(input && { input }) }));
      // Without waiting, the host would record all batches before the device has run the first.
      await device.recorder.finish();
    });
  }

  dispose(): void {
    this.#held?.[Symbol.dispose]();
    this.#states.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
