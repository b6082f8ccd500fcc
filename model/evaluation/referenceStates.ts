import {
  checkArguments,
  finite,
  type Journal,
  type LiveState,
  listOf,
  noJournal,
  OneAhead,
  objectWith,
  optional,
  type Progress,
  RmError,
  record,
  Scope,
  type StoredTensor,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { aBatch, aModel, runForms, settingsAmong, tokenLists } from '../arguments/forms.js';
import { Batch, defaultBatchTokens, groupSequences, totalTokens } from '../transformer/batch.js';
import type { BatchTensors } from '../transformer/batchTensors.js';
import type { Model } from '../transformer/model.js';
import { finalHidden, finalNorm, forward } from '../transformer/transformer.js';
import type { LayerWeights } from '../transformer/weights.js';
import { createHostStates, forwardByLayer } from './forwardByLayer.js';

/** Groups the sequences of two tokens or more into batches. @throws RmError DATA_INVALID if there are none. */
export function scoredGroups(
  sequences: readonly (readonly number[])[],
  batchTokens: number,
): (readonly number[])[][] {
  const usable = sequences.filter(sequence => sequence.length > 1);
  if (usable.length > 0) return groupSequences(usable, batchTokens);
  throw new RmError('DATA_INVALID', 'no sequence has two or more tokens', 'Evaluate on longer text.');
}

/** Reference states are kept after every so many layers, where those of one depth take `bytes` and there is so much room. */
export const depthStep = (layers: number, bytes: number, room: number): number =>
  Math.ceil(layers / (Math.floor(room / bytes) + 1));

/** Settings of `ReferenceStates.of`. */
export interface ReferenceOptions {
  /** Most tokens of a packed batch (default: by the kind of device). */
  batchTokens?: number;
  /** Bytes of device memory for hidden states between layers, besides those after the last layer (default 0). */
  stateBytes?: number;
  onProgress?: Progress;
  signal?: AbortSignal;
  /** Saves the states, so that another process can resume. */
  journal?: Journal;
}

const referenceSettings = settingsAmong<ReferenceOptions>({
  ...runForms,
  batchTokens: optional(whole(1)),
  stateBytes: optional(finite(0)),
  journal: optional(objectWith('a journal', 'step', 'track')),
});

/**
 * Keeps a model's hidden states for some sequences, on the device (on the host if the model is offloaded), so that many
 * other models can be evaluated against it without running it again. A model that shares its first layers
 * (Model.withLayers) starts from the deepest kept state before the first layer that differs. The states must not outlive
 * the model.
 */
export class ReferenceStates implements LiveState {
  /** Depths at which states are kept, ascending; the last is after all layers. */
  #depths: readonly number[];
  /** By batch and depth. */
  readonly #states: Tensor[][] = [];
  /** Final states by batch, if the model is offloaded. */
  #hostStates: BatchTensors | undefined;
  readonly #scope: Scope;
  #tracked: Disposable | undefined;

  private constructor(
    readonly model: Model,
    readonly sequences: readonly (readonly number[])[],
    /** The sequences of two tokens or more, by batch. */
    readonly groups: readonly (readonly (readonly number[])[])[],
    stateBytes: number,
  ) {
    const { hidden, layers } = model.arch;
    const step = depthStep(layers, 4 * hidden * totalTokens(groups.flat()), stateBytes);
    const between = Array.from({ length: Math.ceil(layers / step) - 1 }, (_, i) => (i + 1) * step);
    this.#depths = [...between, layers];
    this.#scope = new Scope(model.device);
  }

  /**
   * Runs the model over the sequences and keeps its states.
   *
   * @throws RmError DATA_INVALID if no sequence has two or more tokens, OUT_OF_MEMORY.
   */
  static async of(
    model: Model,
    sequences: readonly (readonly number[])[],
    options: ReferenceOptions = {},
  ): Promise<ReferenceStates> {
    checkArguments(
      'ReferenceStates.of',
      { model, sequences, options },
      { model: aModel, sequences: tokenLists, options: referenceSettings },
    );
    const { stateBytes = 0, batchTokens = defaultBatchTokens(model.device, model.arch) } = options;
    const groups = scoredGroups(sequences, batchTokens);
    const reference = new ReferenceStates(model, sequences, groups, stateBytes);
    try {
      await reference.#run(options);
      return reference;
    } catch (error) {
      reference.dispose();
      throw error;
    }
  }

  async #run(options: ReferenceOptions): Promise<void> {
    const { onProgress, signal, journal = noJournal } = options;
    const { device } = this.model;
    using _section = device.section('reference');
    if (this.model.isOffloaded) this.#hostStates = createHostStates(device);
    this.#tracked = await journal.track('reference', this.#hostStates ?? this);
    if (this.#hostStates) {
      const open = (index: number) => new Batch(device, this.groups[index]!);
      await forwardByLayer(this.model, this.groups.length, open, this.#hostStates, options);
      return;
    }
    const total = totalTokens(this.groups.flat());
    const ends: number[] = [];
    for (const group of this.groups) ends.push((ends.at(-1) ?? 0) + totalTokens(group));
    const ahead = new OneAhead(device);
    const run = async (index: number) => {
      device.profiler?.count('batches');
      signal?.throwIfAborted();
      const group = this.groups[index]!;
      using batch = new Batch(device, group);
      const states: Tensor[] = [];
      for (const [i, to] of this.#depths.entries()) {
        const start = i > 0 && { from: this.#depths[i - 1]!, input: states[i - 1]! };
        states.push(this.#scope.own(forward(this.model, batch, { to, ...start })));
      }
      this.#states.push(states);
      await ahead.turn();
    };
    await journal.forEach('texts', this.groups.length, run, index =>
      onProgress?.({ phase: 'reference', done: ends[index]!, total, unit: 'tokens' }),
    );
    await ahead.finish();
  }

  /** For a journal: the state from which another process resumes. */
  save(): unknown {
    return { depths: this.#depths, states: this.#states };
  }

  /** Resumes from the value of `save`. */
  async restore(saved: {
    readonly depths: readonly number[];
    readonly states: readonly (readonly StoredTensor[])[];
  }): Promise<void> {
    checkArguments(
      'ReferenceStates.restore',
      { saved },
      {
        saved: record({
          depths: listOf(whole()),
          states: listOf(listOf(objectWith('a stored tensor', 'load'))),
        }),
      },
    );
    // The saving process may have had room for other depths.
    this.#depths = saved.depths;
    for (const stored of saved.states) {
      const states: Tensor[] = [];
      this.#states.push(states);
      for (const state of stored) states.push(this.#scope.own(await state.load()));
    }
  }

  /**
   * Computes the hidden states [T, hidden] of `model` over batch `index` after the final norm. The caller disposes them. An
   * offloaded `model` must be the one these states belong to.
   */
  async finalHidden(model: Model, index: number, batch: Batch): Promise<Tensor> {
    checkArguments(
      'ReferenceStates.finalHidden',
      { model, index, batch },
      { model: aModel, index: whole(0, this.groups.length - 1), batch: aBatch },
    );
    if (this.#hostStates && model === this.model) {
      using scope = new Scope(model.device);
      return finalNorm(model, await this.#hostStates.get(index, scope));
    }
    const shared = sharedLayers(this.model, model);
    const at = this.#depths.findLastIndex(depth => depth <= shared);
    if (at < 0) return finalHidden(model, batch);
    const [from, input] = [this.#depths[at]!, this.#states[index]![at]!];
    return from === model.arch.layers ? finalNorm(model, input) : finalHidden(model, batch, { from, input });
  }

  /** Frees the states. */
  dispose(): void {
    this.#tracked?.[Symbol.dispose]();
    this.#scope.dispose();
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Counts the leading layers that two models compute with the same tensors. */
export function sharedLayers({ weights: a }: Model, { weights: b }: Model): number {
  if (a.embedding !== b.embedding) return 0;
  const differing = a.layers.findIndex((layer, i) => !sameTensors(layer, b.layers[i]));
  return differing < 0 ? a.layers.length : differing;
}

const sameTensors = (a: LayerWeights, b: LayerWeights | undefined): boolean =>
  b !== undefined &&
  ([...Object.keys(a), ...Object.keys(b)] as (keyof LayerWeights)[]).every(key => a[key] === b[key]);
