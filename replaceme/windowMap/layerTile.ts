import { LaterDownloads, type LiveState, noJournal, Scope, Tensor } from '../../engine/index.js';
import { axpy, cosineDistance, matmul, tokenRoots } from '../../kernels/index.js';
import {
  type Batch,
  embedTokens,
  groupSequences,
  LayerSteps,
  type Model,
  totalTokens,
} from '../../model/index.js';
import type { HiddenStates } from '../activations/hiddenStates.js';
import { rowNormsOf, scaledRows } from '../activations/rowOperations.js';
import { batchedTokens, type CalibrationBatch } from '../calibration/calibrationBatch.js';
import { type BatchVisit, forEachBatch } from '../calibration/forEachBatch.js';
import { groupTokens } from './groupTokens.js';
import { addSquares, LayerSums, sumsBytes, tokenWeights } from './layerSums.js';
import type { WindowMapOptions, WindowMeasure } from './windowMeasures.js';

/** Divides layers 0 .. end-1 into ranges whose sums fit into `room` together, of one layer at least. */
export function tiles(
  end: number,
  longest: number,
  rows: number,
  hidden: number,
  room: number,
): [number, number][] {
  const ranges: [number, number][] = [];
  let bytes = 0;
  for (let layer = 0; layer < end; layer++) {
    const needed = sumsBytes(hidden, Math.min(longest, end - layer), rows);
    const last = ranges.at(-1);
    if (last && bytes + needed <= room) {
      last[1] = layer + 1;
      bytes += needed;
    } else {
      ranges.push([layer, layer + 1]);
      bytes = needed;
    }
  }
  return ranges;
}

/** The inputs of a window map. */
export interface MapContext {
  readonly model: Model;
  readonly batches: readonly CalibrationBatch[];
  readonly options: WindowMapOptions;
  readonly longest: number;
  readonly projection: Tensor;
}

/** Measures the windows after layers first .. end-1 of a model on the device, in one pass over the tokens. */
export class LayerTile implements LiveState {
  readonly #layers: LayerSums[] = [];
  readonly #tokens: number;
  readonly #later: LaterDownloads;

  constructor(
    private readonly context: MapContext,
    private readonly first: number,
    private readonly end: number,
    private readonly states: HiddenStates | undefined,
  ) {
    const { model, longest, projection, batches } = context;
    this.#tokens = batchedTokens(batches);
    this.#later = new LaterDownloads(model.device);
    try {
      for (let layer = first; layer < end; layer++) {
        this.#layers.push(new LayerSums(model, layer, longest, projection.rowCount));
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Sums over all tokens. */
  async sum(): Promise<void> {
    const { model, batches, options } = this.context;
    const most = groupTokens(model.device, model.arch);
    const whole = new Set(batches);
    const parts = batches.flatMap(batch => splitBatch(batch, most));
    await forEachBatch(model.device, options, 'window map', parts, visit =>
      this.#add(visit, whole.has(visit.batch)),
    );
    await this.#later.arrive();
  }

  arrive(): Promise<void> {
    return this.#later.arrive();
  }

  save(): unknown {
    return this.#layers.map(layer => layer.save());
  }

  async restore(saved: readonly Parameters<LayerSums['restore']>[0][]): Promise<void> {
    for (const [at, layer] of saved.entries()) await this.#layers[at]!.restore(layer);
  }

  /** @param whole whether this is a whole batch: later passes would not find the states of parts. */
  async #add({ batch, opened, scope }: BatchVisit, whole: boolean): Promise<void> {
    const { device } = this.context.model;
    const rec = device.recorder;
    const { outputs, mlpOutputs } = this.#forward(opened, scope);
    using _section = device.section('statistics');
    const { tokens } = opened;
    const norms = allNorms(outputs);
    const roots = scope.tensor([tokens], 'f32', 'roots of weights');
    tokenRoots(rec, norms, roots, { weight: batch.weight });
    await this.#addDistances(batch, outputs, norms);
    const { projection } = this.context;
    const rows = projection.rowCount;
    /** P Lᵀ of every layer. */
    const projected = scope.tensor([outputs.length * rows, tokens], 'f32', 'projected outputs');
    for (const [layer, output] of outputs.entries()) {
      using inner = new Scope(device);
      const weighted = scaledRows(inner, output, roots);
      matmul(rec, projection, weighted, projected.rows(layer * rows, rows), { transposeB: true });
    }
    for (const [at, sums] of this.#layers.entries()) {
      using inner = new Scope(device);
      const mlpOutput = scaledRows(inner, mlpOutputs[at]!, roots);
      const all = projected.rows((this.first + at) * rows, (sums.targets + 1) * rows);
      const { gram, products } = sums.halves[batch.half];
      matmul(rec, mlpOutput, mlpOutput, gram, { transposeA: true, accumulate: true });
      matmul(rec, all, mlpOutput, products, { accumulate: true });
      if (batch.half === 1) await this.#addProjectedChanges(inner, all, sums.projected);
    }
    if (whole && this.states?.reserve(batch.sequences)) {
      for (const [layer, output] of outputs.entries()) {
        this.states.keep(batch.sequences, layer, scope.release(output));
      }
    }
  }

  /** L of all layers, and M of this tile's layers. */
  #forward(opened: Batch, scope: Scope): { outputs: Tensor[]; mlpOutputs: Tensor[] } {
    const { model } = this.context;
    using _section = model.device.section('forward');
    const outputs: Tensor[] = [];
    const mlpOutputs: Tensor[] = [];
    let input = scope.own(embedTokens(model, opened));
    for (let layer = 0; layer < model.arch.layers; layer++) {
      using inner = new Scope(model.device);
      const steps = new LayerSteps(model, layer, opened, inner);
      const y = steps.postAttention(input, steps.attended(input));
      const features = steps.mlpFeatures(y, input);
      if (layer >= this.first && layer < this.end) {
        mlpOutputs.push(scope.own(inner.release(steps.mlpOutput(features))));
      }
      input = scope.own(inner.release(steps.output(y, features)));
      outputs.push(input);
    }
    return { outputs, mlpOutputs };
  }

  /** Adds the cosine distances of all windows. @param norms |L| by layer and token, which is taken. */
  async #addDistances(
    { half, weight }: CalibrationBatch,
    outputs: readonly Tensor[],
    norms: Tensor,
  ): Promise<void> {
    const { device } = norms;
    const rec = device.recorder;
    const pairs = this.#layers.flatMap(sums => Array.from({ length: sums.targets }, (_, n) => ({ sums, n })));
    const tokens = norms.columns;
    const distances = Tensor.create(device, [pairs.length, tokens], 'f32', 'distances');
    using current = Tensor.create(device, [tokens], 'f32', 'distance');
    for (const [p, { sums, n }] of pairs.entries()) {
      cosineDistance(rec, outputs[sums.layer]!, outputs[sums.layer + n + 1]!, current);
      rec.copy(current, distances.rows(p, 1));
    }
    await this.#later.readF32([norms, distances], ([ofLayers, ofPairs]) => {
      const row = (values: Float32Array, at: number) => values.subarray(at * tokens, (at + 1) * tokens);
      const lengths = outputs.map((_, layer) => row(ofLayers!, layer));
      const weights = tokenWeights(lengths, weight);
      for (const [p, { sums, n }] of pairs.entries()) {
        const ends = [lengths[sums.layer]!, lengths[sums.layer + n + 1]!] as const;
        sums.addDistances(n, half, row(ofPairs!, p), ends, weights);
      }
    });
  }

  /** Adds |P (L_j - L_i)|² for every j; `all`: P Lᵀ of the layer that stays, then of the targets. */
  async #addProjectedChanges(scope: Scope, all: Tensor, sums: Float64Array): Promise<void> {
    const rec = scope.device.recorder;
    const rows = this.context.projection.rowCount;
    const changes = scope.tensor([sums.length * rows, all.columns], 'f32', 'projected changes');
    rec.copy(all.rows(rows, sums.length * rows), changes);
    for (let n = 0; n < sums.length; n++) axpy(rec, -1, all.rows(0, rows), changes.rows(n * rows, rows));
    await this.#later.readF32([rowNormsOf(changes)], ([norms]) => addSquares(norms!, rows, sums));
  }

  /** Solves for the maps, which uses up the sums. */
  async measures(): Promise<WindowMeasure[]> {
    const { journal = noJournal, onProgress, signal } = this.context.options;
    const solve = async (at: number) => {
      signal?.throwIfAborted();
      await this.#layers[at]!.solve(this.#tokens);
    };
    await journal.forEach('maps', this.#layers.length, solve, at =>
      onProgress?.({ phase: 'window map', done: at + 1, total: this.#layers.length, unit: 'layers' }),
    );
    return this.#layers.flatMap(({ measures }) => measures);
  }

  [Symbol.dispose](): void {
    this.#later[Symbol.dispose]();
    for (const layer of this.#layers) layer.dispose();
  }
}

/** Splits a batch between sequences so that no part exceeds `tokens` tokens; a small enough batch stays itself. */
function splitBatch(batch: CalibrationBatch, tokens: number): readonly CalibrationBatch[] {
  if (totalTokens(batch.sequences) <= tokens) return [batch];
  let first = 0;
  return groupSequences(batch.sequences, tokens).map(sequences => {
    const lengths = batch.lengths?.slice(first, first + sequences.length);
    first += sequences.length;
    return { ...batch, sequences, ...(lengths && { lengths }) };
  });
}

/** |L| by layer and token; the caller disposes it. */
function allNorms(outputs: readonly Tensor[]): Tensor {
  const { device, rowCount } = outputs[0]!;
  const norms = Tensor.create(device, [outputs.length, rowCount], 'f32', 'norms');
  for (const [layer, output] of outputs.entries()) {
    using current = rowNormsOf(output);
    device.recorder.copy(current, norms.rows(layer, 1));
  }
  return norms;
}
