import { downloadF32, RmError, Tensor } from '../engine/index.js';
import { cosineDistance } from '../kernels/cosineDistance.js';
import type { Batch } from '../model/batch.js';
import type { Model } from '../model/model.js';
import { forward } from '../model/transformer.js';
import { batchedTokens, type CalibrationBatch, openBatch } from './calibrationBatch.js';
import type { HiddenStates } from './hiddenStates.js';
import type { RowSums } from './statistics/store.js';
import type { WalkOptions } from './walk.js';

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

/**
 * Mean over all tokens of 1 - cos(L_i, L_{i+n}) (ReplaceMe Eq. 4) for every window of the sizes `counts`, in one walk
 * over the batches. All tokens count alike, the first of a sequence included; L of the last layer is taken before the
 * final norm.
 *
 * @param options `states` is given the outputs of all layers, as far as it has room; `measure` is another mean than that
 *   over all tokens.
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

/** How window distances are measured. */
export interface DistanceOptions extends WalkOptions {
  readonly states?: HiddenStates;
  readonly measure?: DistanceMeasure;
}

/** The means that sums stand for. */
export const meansOf = ({ sums, rows }: RowSums): number[] => sums.map(sum => sum / rows);

/** The same as sums, which those over other batches can be added to. */
export async function windowDistanceSums(
  model: Model,
  batches: readonly CalibrationBatch[],
  counts: readonly number[],
  options: DistanceOptions = {},
): Promise<RowSums[]> {
  const { states, measure = overAllTokens } = options;
  const { device, arch } = model;
  using _section = device.section('distances');
  const windows = counts.flatMap((count, c) =>
    Array.from({ length: arch.layers - count }, (_, layer) => ({ c, layer, end: layer + count })),
  );
  const sums = counts.map(count => new Array<number>(arch.layers - count).fill(0));
  const longest = Math.max(...counts);
  const total = batchedTokens(batches);
  let tokens = 0;
  let counted = 0;
  for (const group of batches) {
    options.signal?.throwIfAborted();
    const { sequences } = group;
    using batch = openBatch(device, group);
    using distances = Tensor.create(device, [windows.length, batch.tokens], 'f32', 'distances');
    using current = Tensor.create(device, [batch.tokens], 'f32', 'distance');
    /** Outputs by layer, as far back as a window reaches. */
    const outputs = new Map<number, Tensor>();
    states?.reserve(sequences);
    const release = (layer: number, output: Tensor | undefined) => {
      if (output && !states?.keep(sequences, layer, output)) output.dispose();
      outputs.delete(layer);
    };
    try {
      for (let layer = 0; layer < arch.layers; layer++) {
        const input = outputs.get(layer - 1);
        const run = () => forward(model, batch, { from: layer, to: layer + 1, ...(input && { input }) });
        outputs.set(layer, states?.take(sequences, layer) ?? run());
        for (const [w, window] of windows.entries()) {
          if (window.end !== layer) continue;
          cosineDistance(device.recorder, outputs.get(window.layer)!, outputs.get(layer)!, current);
          device.recorder.copy(current, distances.rows(w, 1));
        }
        release(layer - longest, outputs.get(layer - longest));
      }
      const values = await downloadF32(distances);
      const rows = [...measure.rows(batch)];
      for (const [w, { c, layer }] of windows.entries()) {
        for (const row of rows) sums[c]![layer]! += measure.of(values[w * batch.tokens + row]!);
      }
      counted += rows.length;
    } finally {
      for (const [layer, output] of outputs) release(layer, output);
    }
    tokens += batch.tokens;
    options.onProgress?.({ phase: 'distances', done: tokens, total, unit: 'tokens' });
  }
  const broken = windows.find(({ c, layer }) => !Number.isFinite(sums[c]![layer]));
  if (broken) throw notFinite(broken.layer, broken.end);
  return sums.map(of => ({ sums: of, rows: counted }));
}

/** The failure of a window whose hidden states hold NaN or infinity. */
export const notFinite = (layer: number, end: number): RmError =>
  new RmError(
    'NOT_FINITE',
    `the outputs of layers ${layer} to ${end} hold NaN or infinity on the calibration data`,
    'The model is damaged: look at its weights, or at how it was made.',
  );
