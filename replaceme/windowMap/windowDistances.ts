import {
  checkArguments,
  type Journal,
  LaterDownloads,
  type LiveState,
  listOf,
  liveSums,
  noJournal,
  numeric,
  OneAhead,
  objectWith,
  RmError,
  record,
  Scope,
  type StoredTensor,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { cosineDistance } from '../../kernels/index.js';
import {
  aModel,
  type Batch,
  embedTokens,
  forward,
  type Model,
  type StatePlacement,
} from '../../model/index.js';
import type { HiddenStates } from '../activations/hiddenStates.js';
import { type CalibrationBatch, openBatch } from '../calibration/calibrationBatch.js';
import { forEachGroup, layerwiseGroups } from '../run/forEachGroup.js';
import type { RunHooks } from '../run/runHooks.js';
import { meansOf, type RowSums } from '../statistics/statisticsStore.js';
import { LayerOutputs } from './layerOutputs.js';

/** How the cosine distances d of a batch's tokens count: the mean of `of(d)` over `rows`. */
export interface DistanceMeasure {
  /** Rows of the batch that count. */
  rows(batch: Batch): Iterable<number>;
  /** The value of a row with this cosine distance. */
  of(distance: number): number;
}

const overAllTokens: DistanceMeasure = {
  rows: ({ tokens }) => Array(tokens).keys(),
  of: distance => distance,
};

/** How window distances are measured. */
export interface DistanceOptions extends RunHooks {
  /** Another measure than the mean over all tokens. */
  measure?: DistanceMeasure;
  /** Receives as many layer outputs as it has room for. */
  states?: HiddenStates;
  /** Where outputs stay until the end of their windows (default: on the device). */
  placement?: StatePlacement | undefined;
}

/** Two depths of a model: the output of `layer` (-1: the embeddings) and that of `end`. */
interface Span {
  readonly layer: number;
  readonly end: number;
}

/**
 * Mean over all tokens of 1 - cos(L_i, L_{i+n}) (ReplaceMe Eq. 4) for every window of the sizes `counts`, in one pass
 * over the batches. All tokens count alike, including the first of a sequence; L of the last layer precedes the final
 * norm.
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
  checkArguments(
    'windowDistances',
    { model, batches, counts, options },
    {
      model: aModel,
      batches: listOf(record({ sequences: listOf(listOf(numeric)), weight: numeric })),
      counts: listOf(whole(1)),
      options: objectWith('an object of settings'),
    },
  );
  return (await windowDistanceSums(model, batches, counts, options)).map(meansOf);
}

/** The sums behind `windowDistances`, to which sums over other batches can be added. */
export async function windowDistanceSums(
  model: Model,
  batches: readonly CalibrationBatch[],
  counts: readonly number[],
  options: DistanceOptions = {},
): Promise<RowSums[]> {
  const { layers } = model.arch;
  const windows = counts.map(count =>
    Array.from({ length: layers - count }, (_, layer) => ({ layer, end: layer + count })),
  );
  const spans = windows.flat();
  const { sums, rows } = await spanSums(model, batches, spans, options);
  const broken = spans[sums.findIndex(sum => !Number.isFinite(sum))];
  if (broken) throw notFinite(broken.layer, broken.end);
  let first = 0;
  return windows.map(({ length }) => {
    first += length;
    return { sums: sums.slice(first - length, first), rows };
  });
}

/**
 * Sums of the cosine distance between each layer's input and its output, over all tokens.
 *
 * @throws RmError NOT_FINITE naming the first layer whose hidden states hold NaN or infinity.
 */
export async function layerDistanceSums(
  model: Model,
  batches: readonly CalibrationBatch[],
  options: RunHooks & { readonly placement?: StatePlacement | undefined },
): Promise<RowSums> {
  const spans = Array.from({ length: model.arch.layers }, (_, layer) => ({ layer: layer - 1, end: layer }));
  const distances = await spanSums(model, batches, spans, options);
  const broken = distances.sums.findIndex(sum => !Number.isFinite(sum));
  if (broken >= 0) throw notFinite(broken, broken);
  return distances;
}

async function spanSums(
  model: Model,
  batches: readonly CalibrationBatch[],
  spans: readonly Span[],
  options: DistanceOptions,
): Promise<RowSums> {
  const { measure = overAllTokens, journal = noJournal } = options;
  using _section = model.device.section('distances');
  const total = { sums: new Array<number>(spans.length).fill(0), rows: 0 };
  using later = new LaterDownloads(model.device);
  const ahead = new OneAhead(model.device);
  using _tracking = await journal.track('sums', later.before(liveSums({}, total)));
  const sequencesOf = (group: readonly CalibrationBatch[]) => group.flatMap(({ sequences }) => sequences);
  await forEachGroup(options, 'distances', layerwiseGroups(model, batches), sequencesOf, async group => {
    using pass = new DistancePass(model, group, spans, options);
    using _passTracking = await pass.track();
    for (const { opened, distances } of await pass.run()) {
      const { tokens } = opened;
      const rows = [...measure.rows(opened)];
      await later.readF32([distances], ([values]) => {
        for (const s of spans.keys()) {
          for (const row of rows) total.sums[s]! += measure.of(values![s * tokens + row]!);
        }
        total.rows += rows.length;
      });
    }
    await ahead.turn();
  });
  await later.arrive();
  return total;
}

/** The error for a window whose hidden states hold NaN or infinity. */
export const notFinite = (layer: number, end: number): RmError =>
  new RmError(
    'NOT_FINITE',
    `the outputs of layers ${layer} to ${end} hold NaN or infinity on the calibration data`,
    'The model is damaged: check its weights and how it was made.',
  );

interface MeasuredBatch {
  readonly sequences: CalibrationBatch['sequences'];
  readonly opened: Batch;
  /** f32 [spans, tokens] */
  readonly distances: Tensor;
}

/** Runs a group of batches through the layers and measures the distances over all spans. */
class DistancePass implements LiveState {
  readonly #scope: Scope;
  readonly #batches: readonly MeasuredBatch[];
  readonly #outputs: LayerOutputs;
  /** Layers of the longest span. */
  readonly #reach: number;
  readonly #journal: Journal;

  constructor(
    private readonly model: Model,
    group: readonly CalibrationBatch[],
    private readonly spans: readonly Span[],
    private readonly options: DistanceOptions,
  ) {
    const { device } = model;
    // A single batch is quick enough to be redone on resume.
    this.#journal = (model.isOffloaded ? options.journal : undefined) ?? noJournal;
    this.#reach = Math.max(...spans.map(({ layer, end }) => end - layer));
    this.#outputs = new LayerOutputs(device, options.placement);
    this.#scope = new Scope(device);
    this.#batches = group.map(batch => {
      const { sequences } = batch;
      options.states?.reserve(sequences);
      const opened = openBatch(device, batch);
      const distances = this.#scope.tensor([spans.length, opened.tokens], 'f32', 'distances');
      return { sequences, opened, distances };
    });
  }

  /** Records the distances of all spans, which the caller disposes. */
  async run(): Promise<readonly MeasuredBatch[]> {
    const { model, options } = this;
    const { device, arch } = model;
    const ahead = new OneAhead(device);
    await this.#journal.forEach('layers', arch.layers, async layer => {
      await model.loadLayer(layer, layer + 1);
      this.#outputs.add(layer);
      await this.#journal.forEach('batches', this.#batches.length, async index => {
        options.signal?.throwIfAborted();
        device.profiler?.count('batches');
        await this.#step(layer, index, this.#batches[index]!);
        if (model.isOffloaded) await ahead.turn();
      });
      this.#release(layer - this.#reach);
    });
    // The caller takes the distances.
    for (const { distances } of this.#batches) this.#scope.release(distances);
    return this.#batches;
  }

  /** Keeps the pass in the journal until the result is disposed. */
  track(): Promise<Disposable> {
    return this.#journal.track('outputs', this);
  }

  async save(): Promise<unknown> {
    return {
      outputs: await this.#outputs.save(),
      distances: this.#batches.map(({ distances }) => distances),
    };
  }

  async restore(saved: {
    readonly outputs: ReadonlyMap<number, never>;
    readonly distances: readonly StoredTensor[];
  }): Promise<void> {
    for (const [index, { distances }] of this.#batches.entries())
      await saved.distances[index]!.into(distances);
    await this.#outputs.restore(saved.outputs);
  }

  async #step(layer: number, index: number, { sequences, opened, distances }: MeasuredBatch): Promise<void> {
    const { model } = this;
    const { device } = model;
    using scope = new Scope(device);
    const input =
      layer === 0
        ? scope.own(embedTokens(model, opened))
        : await this.#outputs.at(layer - 1)!.get(index, scope);
    const output =
      this.options.states?.take(sequences, layer) ??
      forward(model, opened, { from: layer, to: layer + 1, input });
    try {
      const current = scope.tensor([opened.tokens], 'f32', 'distance');
      for (const [s, span] of this.spans.entries()) {
        if (span.end !== layer) continue;
        const start =
          span.layer === layer - 1 ? input : await this.#outputs.at(span.layer)!.get(index, scope);
        cosineDistance(device.recorder, start, output, current);
        device.recorder.copy(current, distances.rows(s, 1));
      }
    } catch (error) {
      output.dispose();
      throw error;
    }
    this.#outputs.at(layer)!.put(index, output);
  }

  /** Gives a layer's outputs to `options.states`, or frees them. */
  #release(layer: number): void {
    const outputs = this.#outputs.at(layer);
    const { states } = this.options;
    for (const [index, { sequences }] of this.#batches.entries()) {
      const output = states && outputs?.take(index);
      if (output && !states.keep(sequences, layer, output)) output.dispose();
    }
    this.#outputs.drop(layer);
  }

  [Symbol.dispose](): void {
    for (const layer of this.#outputs.layers) this.#release(layer);
    for (const { opened } of this.#batches) opened.dispose();
    this.#scope.dispose();
  }
}
