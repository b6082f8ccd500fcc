import { type Device, downloadF32, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { axpy, cosineDistance, matmul, rowNorms, scaleRows } from '../../kernels/index.js';
import { BatchTensors, embedTokens, forward, LayerSteps, type StatePlacement } from '../../model/index.js';
import { batchedTokens, type CalibrationBatch, openBatch } from '../calibration/calibrationBatch.js';
import { addSquares, LayerSums, tokenWeights } from './layerSums.js';
import type { MapContext } from './layerTile.js';
import type { WindowMeasure } from './windowMeasures.js';

/** What the first walk leaves of a batch. */
interface Walked {
  /** |L| by layer and token. */
  readonly norms: Float32Array[];
  /** By layer j, cosine distances of all tokens between L_j and L_{j-1}, L_{j-2} ... */
  readonly distances: Float32Array[][];
}

interface FirstWalk {
  readonly walked: readonly Walked[];
  /** By layer: L Pᵀ [T, rows] of every batch. */
  readonly projected: readonly BatchTensors[];
}

/**
 * The measures of a model whose layers are streamed, in two walks, each layer uploaded once in each. How much a token
 * counts is known when it has been through all layers, so the first walk keeps norms, distances and L Pᵀ of every layer
 * on the host; the second sums over the MLP outputs, for one layer that stays at a time.
 */
export async function offloadedMap(context: MapContext): Promise<WindowMeasure[]> {
  const { model, options } = context;
  const total = 2 * model.arch.layers - 1;
  let done = 0;
  const behind = () => {
    options.signal?.throwIfAborted();
    options.onProgress?.({ phase: 'window map', done: ++done, total, unit: 'layers' });
  };
  return await secondWalk(context, await firstWalk(context, behind), behind);
}

/** Something for every batch of a layer, which is on the device; one batch after the other. */
async function forEachBatch(
  { batches, model, options }: MapContext,
  visit: (batch: CalibrationBatch, index: number, scope: Scope) => Promise<void>,
): Promise<void> {
  for (const [index, batch] of batches.entries()) {
    options.signal?.throwIfAborted();
    using scope = new Scope(model.device);
    await visit(batch, index, scope);
    await model.device.recorder.finish();
  }
}

async function firstWalk(context: MapContext, behind: () => void): Promise<FirstWalk> {
  const { model, batches, options, longest, projection } = context;
  const { device, arch } = model;
  const rec = device.recorder;
  const walked = batches.map((): Walked => ({ norms: [], distances: [] }));
  const projected: BatchTensors[] = [];
  using ring = new OutputRing(device, options.placement);
  for (let layer = 0; layer < arch.layers; layer++) {
    await model.loadLayer(layer, (layer + 1) % arch.layers);
    const outputs = ring.add(layer);
    // A fraction of the hidden states: on the host wherever those are.
    const seen = new BatchTensors(device, { place: 'host', dtype: 'f32' });
    projected.push(seen);
    const before = Math.min(longest, layer);
    await forEachBatch(context, async (batch, index, scope) => {
      using opened = openBatch(device, batch);
      const input = await ring.at(layer - 1)?.get(index, scope);
      const output = scope.own(
        forward(model, opened, { from: layer, to: layer + 1, ...(input && { input }) }),
      );
      using _section = device.section('statistics');
      const { tokens } = opened;
      const numbers = scope.tensor([1 + before, tokens], 'f32', 'norms and distances');
      const current = scope.tensor([tokens], 'f32', 'norms or distances');
      rowNorms(rec, output, current);
      rec.copy(current, numbers.rows(0, 1));
      for (let back = 1; back <= before; back++) {
        using inner = new Scope(device);
        cosineDistance(rec, await ring.at(layer - back)!.get(index, inner), output, current);
        rec.copy(current, numbers.rows(back, 1));
      }
      const small = scope.tensor([tokens, projection.rowCount], 'f32', 'projected outputs');
      matmul(rec, output, projection, small, { transposeB: true });
      await seen.put(index, scope.release(small));
      const values = await downloadF32(numbers);
      const row = (at: number) => values.subarray(at * tokens, (at + 1) * tokens);
      walked[index]!.norms.push(row(0));
      walked[index]!.distances.push(Array.from({ length: before }, (_, back) => row(back + 1)));
      await outputs.put(index, scope.release(output));
    });
    ring.drop(layer - longest);
    behind();
  }
  return { walked, projected };
}

/** Outputs of layers, as far back as a window reaches. */
class OutputRing {
  readonly #outputs = new Map<number, BatchTensors>();

  constructor(
    private readonly device: Device,
    private readonly placement: StatePlacement | undefined,
  ) {}

  add(layer: number): BatchTensors {
    const outputs = new BatchTensors(this.device, this.placement);
    this.#outputs.set(layer, outputs);
    return outputs;
  }

  at(layer: number): BatchTensors | undefined {
    return this.#outputs.get(layer);
  }

  drop(layer: number): void {
    this.#outputs.get(layer)?.dispose();
    this.#outputs.delete(layer);
  }

  [Symbol.dispose](): void {
    for (const layer of [...this.#outputs.keys()]) this.drop(layer);
  }
}

async function secondWalk(
  context: MapContext,
  { walked, projected }: FirstWalk,
  behind: () => void,
): Promise<WindowMeasure[]> {
  const { model, batches, options, longest, projection } = context;
  const { device, arch } = model;
  const rec = device.recorder;
  const rows = projection.rowCount;
  const weights = walked.map(({ norms }, index) => tokenWeights(norms, batches[index]!.weight));
  using states = new BatchTensors(device, options.placement);
  const measures: WindowMeasure[] = [];
  for (let layer = 0; layer < arch.layers - 1; layer++) {
    await model.loadLayer(layer, layer + 2 < arch.layers ? layer + 1 : undefined);
    using sums = new LayerSums(model, layer, longest, rows);
    await forEachBatch(context, async (batch, index, scope) => {
      using opened = openBatch(device, batch);
      const steps = new LayerSteps(model, layer, opened, scope);
      const input = layer === 0 ? scope.own(embedTokens(model, opened)) : await states.get(index, scope);
      const y = steps.postAttention(input, steps.attended(input));
      const features = steps.mlpFeatures(y, input);
      const mlpOutput = steps.mlpOutput(features);
      using _section = device.section('statistics');
      const roots = scope.own(tensorFrom(device, Float32Array.from(weights[index]!, Math.sqrt)));
      const weighted = (x: Tensor, inner: Scope) => {
        const out = inner.tensor(x.shape, 'f32', x.label);
        scaleRows(rec, x, roots, out);
        return out;
      };
      const m = weighted(mlpOutput, scope);
      const { gram, products } = sums.halves[batch.half];
      matmul(rec, m, m, gram, { transposeA: true, accumulate: true });
      const own = weighted(await projected[layer]!.get(index, scope), scope);
      matmul(rec, own, m, products.rows(0, rows), { transposeA: true, accumulate: true });
      const { tokens } = opened;
      const changes = scope.tensor([sums.targets, tokens], 'f32', 'norms');
      const current = scope.tensor([tokens], 'f32', 'norms');
      const { norms, distances } = walked[index]!;
      for (let n = 0; n < sums.targets; n++) {
        const end = layer + n + 1;
        using inner = new Scope(device);
        const target = weighted(await projected[end]!.get(index, inner), inner);
        const into = products.rows((n + 1) * rows, rows);
        matmul(rec, target, m, into, { transposeA: true, accumulate: true });
        if (batch.half === 1) {
          axpy(rec, -1, own, target);
          rowNorms(rec, target, current);
          rec.copy(current, changes.rows(n, 1));
        }
        sums.addDistances(n, batch.half, distances[end]![n]!, [norms[layer]!, norms[end]!], weights[index]!);
      }
      if (batch.half === 1) await addSquares(changes, tokens, sums.projected);
      await states.put(index, scope.release(steps.output(y, features)));
    });
    await sums.solve(batchedTokens(batches));
    measures.push(...sums.measures);
    behind();
  }
  return measures;
}
