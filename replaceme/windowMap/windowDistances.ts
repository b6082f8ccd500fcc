import {
  downloadF32,
  type Journal,
  type LiveState,
  liveSums,
  noJournal,
  RmError,
  Scope,
  type StoredTensor,
  type Tensor,
} from '../../engine/index.js';
import { cosineDistance } from '../../kernels/index.js';
import { type Batch, BatchTensors, forward, type Model, type StatePlacement } from '../../model/index.js';
import type { HiddenStates } from '../activations/hiddenStates.js';
import {
  type CalibrationBatch,
  OpenBatches,
  sequencesOf,
  walkGroups,
} from '../calibration/calibrationBatch.js';
import { forEachGroup, type RunHooks } from '../run/runHooks.js';
import type { RowSums } from '../statistics/statisticsStore.js';
import { meansOf } from '../statistics/statisticsStore.js';

/** What counts of the cosine distances d of a batch's tokens: the mean of `of(d)` over `rows`. */
export interface DistanceMeasure {
  /** Rows of the batch that count. */
  rows(batch: Batch): Iterable<number>;
  /** The value of a row whose cosine distance this is. */
  of(distance: number): number;
}

const overAllTokens: DistanceMeasure = {
  rows: ({ tokens }) => Array(tokens).keys(),
  of: distance => distance,
};

/** How window distances are measured. */
export interface DistanceOptions extends RunHooks {
  /** Another mean than that over all tokens. */
  measure?: DistanceMeasure;
  /** Is given the outputs of all layers, as far as it has room. */
  states?: HiddenStates;
  /** Where outputs wait for the other end of their windows (default: on the device). */
  placement?: StatePlacement | undefined;
}

/**
 * Mean over all tokens of 1 - cos(L_i, L_{i+n}) (ReplaceMe Eq. 4) for every window of the sizes `counts`, in one walk
 * over the batches. All tokens count alike, the first of a sequence included; L of the last layer is taken before the
 * final norm.
 *
 * @returns for every n of `counts` the means, index i = 0 .. layers-1-n.
 * @throws RmError NOT_FINITE naming the first window whose hidden states hold NaN or infinity.
 */
export async function windowDistances(
  model: Model,
  batches: readonly CalibrationBatch[],
  counts: readonly number[],
  options: DistanceOptions = {},
): Promise<number[][]> {
  return (await windowDistanceSums(model, batches, counts, options)).map(meansOf);
}

/** The same as sums, which those over other batches can be added to. */
export async function windowDistanceSums(
  model: Model,
  batches: readonly CalibrationBatch[],
  counts: readonly number[],
  options: DistanceOptions = {},
): Promise<RowSums[]> {
  const { measure = overAllTokens } = options;
  const { device, arch } = model;
  using _section = device.section('distances');
  const windows = counts.flatMap((count, c) =>
    Array.from({ length: arch.layers - count }, (_, layer) => ({ c, layer, end: layer + count })),
  );
  const found = { sums: counts.map(count => new Array<number>(arch.layers - count).fill(0)), counted: 0 };
  const longest = Math.max(...counts);
  const { journal = noJournal } = options;
  using _held = await journal.track('sums', liveSums({}, found));
  const groups = walkGroups(model, batches);
  const sequencesOfAll = (group: readonly CalibrationBatch[]) => group.flatMap(sequencesOf);
  await forEachGroup(options, 'distances', groups, sequencesOfAll, async group => {
    using walk = new DistanceWalk(model, group, windows, longest, options);
    using _walk = await walk.hold();
    for (const { batch, distances } of await walk.run()) {
      const values = await downloadF32(distances);
      const rows = [...measure.rows(batch)];
      for (const [w, { c, layer }] of windows.entries()) {
        for (const row of rows) found.sums[c]![layer]! += measure.of(values[w * batch.tokens + row]!);
      }
      found.counted += rows.length;
    }
  });
  const broken = windows.find(({ c, layer }) => !Number.isFinite(found.sums[c]![layer]));
  if (broken) throw notFinite(broken.layer, broken.end);
  return found.sums.map(sums => ({ sums, rows: found.counted }));
}

/** The failure of a window whose hidden states hold NaN or infinity. */
export const notFinite = (layer: number, end: number): RmError =>
  new RmError(
    'NOT_FINITE',
    `the outputs of layers ${layer} to ${end} hold NaN or infinity on the calibration data`,
    'The model is damaged: look at its weights, or at how it was made.',
  );

interface WalkedBatch {
  readonly sequences: CalibrationBatch['sequences'];
  readonly batch: Batch;
  /** f32 [windows, tokens] */
  readonly distances: Tensor;
}

/** Batches that walk through the layers together. */
class DistanceWalk implements LiveState {
  readonly #scope: Scope;
  readonly #opened: OpenBatches;
  readonly #batches: readonly WalkedBatch[];
  /** Outputs by layer, as far back as a window reaches. */
  readonly #outputs = new Map<number, BatchTensors>();
  readonly #journal: Journal;

  constructor(
    private readonly model: Model,
    group: readonly CalibrationBatch[],
    private readonly windows: readonly { readonly layer: number; readonly end: number }[],
    private readonly longest: number,
    private readonly options: DistanceOptions,
  ) {
    const { device } = model;
    // A batch on its own is done in one go.
    this.#journal = (model.isOffloaded ? options.journal : undefined) ?? noJournal;
    this.#opened = new OpenBatches(device, group);
    this.#scope = new Scope(device);
    this.#batches = group.map(({ sequences }, index) => {
      options.states?.reserve(sequences);
      const batch = this.#opened.batches[index]!;
      const distances = this.#scope.tensor([windows.length, batch.tokens], 'f32', 'distances');
      return { sequences, batch, distances };
    });
  }

  /** The distances of all windows are recorded when it is done. */
  async run(): Promise<readonly WalkedBatch[]> {
    const { model, longest, options } = this;
    const { device, arch } = model;
    await this.#journal.forEach('layers', arch.layers, async layer => {
      await model.loadLayer(layer, layer + 1);
      if (!this.#outputs.has(layer)) this.#outputs.set(layer, new BatchTensors(device, options.placement));
      await this.#journal.forEach('batches', this.#batches.length, async index => {
        options.signal?.throwIfAborted();
        await this.#step(layer, index, this.#batches[index]!);
        if (model.isOffloaded) await device.recorder.finish();
      });
      this.#release(layer - longest);
    });
    return this.#batches;
  }

  /** Keeps the walk in the journal until the result is disposed. */
  hold(): Promise<Disposable> {
    return this.#journal.track('outputs', this);
  }

  save(): unknown {
    const outputs = new Map([...this.#outputs].map(([layer, states]) => [layer, states.save()]));
    return { outputs, distances: this.#batches.map(({ distances }) => distances) };
  }

  async restore(saved: {
    readonly outputs: ReadonlyMap<number, never>;
    readonly distances: readonly StoredTensor[];
  }): Promise<void> {
    for (const [index, { distances }] of this.#batches.entries())
      await saved.distances[index]!.into(distances);
    for (const [layer, states] of saved.outputs) {
      const outputs = new BatchTensors(this.model.device, this.options.placement);
      this.#outputs.set(layer, outputs);
      await outputs.restore(states);
    }
  }

  async #step(layer: number, index: number, { sequences, batch, distances }: WalkedBatch): Promise<void> {
    const { device } = this.model;
    using scope = new Scope(device);
    const input = await this.#outputs.get(layer - 1)?.get(index, scope);
    const run = () => forward(this.model, batch, { from: layer, to: layer + 1, ...(input && { input }) });
    const output = this.options.states?.take(sequences, layer) ?? run();
    try {
      const current = scope.tensor([batch.tokens], 'f32', 'distance');
      for (const [w, window] of this.windows.entries()) {
        if (window.end !== layer) continue;
        const start = await this.#outputs.get(window.layer)!.get(index, scope);
        cosineDistance(device.recorder, start, output, current);
        device.recorder.copy(current, distances.rows(w, 1));
      }
    } catch (error) {
      output.dispose();
      throw error;
    }
    await this.#outputs.get(layer)!.put(index, output);
  }

  /** Gives a layer's outputs away, or frees them. */
  #release(layer: number): void {
    const outputs = this.#outputs.get(layer);
    if (!outputs) return;
    this.#outputs.delete(layer);
    const { states } = this.options;
    for (const [index, { sequences }] of this.#batches.entries()) {
      const kept = states && outputs.take(index);
      if (kept && !states.keep(sequences, layer, kept)) kept.dispose();
    }
    outputs.dispose();
  }

  [Symbol.dispose](): void {
    for (const layer of [...this.#outputs.keys()]) this.#release(layer);
    this.#opened[Symbol.dispose]();
    this.#scope.dispose();
  }
}
