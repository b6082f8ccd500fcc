import { downloadF32, RmError, Tensor } from '../engine/index.js';
import type { Progress } from '../engine/progress.js';
import { cosineDistance } from '../kernels/cosineDistance.js';
import { Batch, totalTokens } from '../model/batch.js';
import type { Model } from '../model/model.js';
import { forward } from '../model/transformer.js';
import type { HiddenStates } from './hiddenStates.js';

export interface WalkOptions {
  onProgress?: Progress;
  signal?: AbortSignal;
}

/**
 * Mean over all tokens of 1 - cos(L_i, L_{i+n}) (ReplaceMe Eq. 4) for every window of the sizes `counts`, in one walk
 * over the batches. All tokens count alike, the first of a sequence included; L of the last layer is taken before the
 * final norm.
 *
 * @param batches groups of token sequences, each small enough for one packed batch.
 * @param options.states is given the outputs of all layers, as far as it has room.
 * @returns for every n of `counts` the means, index i = 0 .. layers-1-n.
 * @throws RmError NOT_FINITE naming the first window whose hidden states hold NaN or infinity.
 */
export async function windowDistances(
  model: Model,
  batches: readonly (readonly (readonly number[])[])[],
  counts: readonly number[],
  { states, ...options }: WalkOptions & { states?: HiddenStates } = {},
): Promise<number[][]> {
  const { device, arch } = model;
  using _section = device.section('distances');
  const windows = counts.flatMap((count, c) =>
    Array.from({ length: arch.layers - count }, (_, layer) => ({ c, layer, end: layer + count })),
  );
  const sums = counts.map(count => new Array<number>(arch.layers - count).fill(0));
  const longest = Math.max(...counts);
  const total = totalTokens(batches.flat());
  let tokens = 0;
  for (const sequences of batches) {
    options.signal?.throwIfAborted();
    using batch = new Batch(device, sequences);
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
        outputs.set(layer, forward(model, batch, { from: layer, to: layer + 1, ...(input && { input }) }));
        for (const [w, window] of windows.entries()) {
          if (window.end !== layer) continue;
          cosineDistance(device.recorder, outputs.get(window.layer)!, outputs.get(layer)!, current);
          device.recorder.copy(current, distances.rows(w, 1));
        }
        release(layer - longest, outputs.get(layer - longest));
      }
      const values = await downloadF32(distances);
      for (const [w, { c, layer }] of windows.entries()) {
        for (let t = 0; t < batch.tokens; t++) sums[c]![layer]! += values[w * batch.tokens + t]!;
      }
    } finally {
      for (const [layer, output] of outputs) release(layer, output);
    }
    tokens += batch.tokens;
    options.onProgress?.({ phase: 'distances', done: tokens, total, unit: 'tokens' });
  }
  const broken = windows.find(({ c, layer }) => !Number.isFinite(sums[c]![layer]));
  if (broken) {
    throw new RmError(
      'NOT_FINITE',
      `the outputs of layers ${broken.layer} to ${broken.end} hold NaN or infinity on the calibration data`,
      'The model is damaged: look at its weights, or at how it was made.',
    );
  }
  return sums.map(means => means.map(sum => sum / tokens));
}
