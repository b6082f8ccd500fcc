import { LaterDownloads, Scope, Tensor, tensorFrom } from '../../engine/index.js';
import { axpy, cosineDistance, matmul, rowNorms } from '../../kernels/index.js';
import { BatchTensors, embedTokens, forward, LayerSteps } from '../../model/index.js';
import { scaledRows } from '../activations/rowOperations.js';
import { batchedTokens } from '../calibration/calibrationBatch.js';
import { type BatchVisit, forEachBatch } from '../calibration/forEachBatch.js';
import { LayerOutputs } from './layerOutputs.js';
import { addSquares, LayerSums, tokenWeights } from './layerSums.js';
import type { MapContext } from './layerTile.js';
import type { WindowMeasure } from './windowMeasures.js';

/** What the first pass leaves of a batch. */
interface BatchMeasures {
  /** |L| by layer and token. */
  readonly norms: Float32Array[];
  /** By layer j, cosine distances of all tokens between L_j and L_{j-1}, L_{j-2} ... */
  readonly distances: Float32Array[][];
}

interface FirstPass {
  readonly measured: readonly BatchMeasures[];
  /** By layer: L Pᵀ [T, rows] of every batch. */
  readonly projected: readonly BatchTensors[];
}

/**
 * The measures of an offloaded model in two passes, each of which uploads every layer once. A token's weight is known only
 * after all layers, so the first pass keeps norms, distances and L Pᵀ of every layer on the host; the second sums over
 * the MLP outputs, one layer at a time.
 */
export async function offloadedMap(context: MapContext): Promise<WindowMeasure[]> {
  const { model, options } = context;
  const total = 2 * model.arch.layers - 1;
  let done = 0;
  const onLayer = () => {
    options.signal?.throwIfAborted();
    options.onProgress?.({ phase: 'window map', done: ++done, total, unit: 'layers' });
  };
  return await secondPass(context, await firstPass(context, onLayer), onLayer);
}

/** Visits all batches while one layer is on the device; progress counts layers, and nothing is journaled. */
const forEachBatchOf = (
  { model, batches, options: { signal } }: MapContext,
  visit: (visit: BatchVisit) => Promise<void>,
): Promise<void> => forEachBatch(model.device, signal ? { signal } : {}, 'window map', batches, visit);

async function firstPass(context: MapContext, onLayer: () => void): Promise<FirstPass> {
  const { model, batches, options, longest, projection } = context;
  const { device, arch } = model;
  const rec = device.recorder;
  const measured = batches.map((): BatchMeasures => ({ norms: [], distances: [] }));
  const projected: BatchTensors[] = [];
  using outputs = new LayerOutputs(device, options.placement);
  using later = new LaterDownloads(device);
  for (let layer = 0; layer < arch.layers; layer++) {
    await model.loadLayer(layer, (layer + 1) % arch.layers);
    const own = outputs.add(layer);
    // A fraction of the hidden states: always on the host.
    const small = new BatchTensors(device, { place: 'host', dtype: 'f32' });
    projected.push(small);
    const before = Math.min(longest, layer);
    await forEachBatchOf(context, async ({ index, opened, scope }) => {
      const input = await outputs.at(layer - 1)?.get(index, scope);
      const output = scope.own(
        forward(model, opened, { from: layer, to: layer + 1, ...(input && { input }) }),
      );
      using _section = device.section('statistics');
      const { tokens } = opened;
      const numbers = Tensor.create(device, [1 + before, tokens], 'f32', 'norms and distances');
      const current = scope.tensor([tokens], 'f32', 'norms or distances');
      rowNorms(rec, output, current);
      rec.copy(current, numbers.rows(0, 1));
      for (let back = 1; back <= before; back++) {
        using inner = new Scope(device);
        cosineDistance(rec, await outputs.at(layer - back)!.get(index, inner), output, current);
        rec.copy(current, numbers.rows(back, 1));
      }
      const product = scope.tensor([tokens, projection.rowCount], 'f32', 'projected outputs');
      matmul(rec, output, projection, product, { transposeB: true });
      small.put(index, scope.release(product));
      await later.readF32([numbers], ([values]) => {
        const row = (at: number) => values!.subarray(at * tokens, (at + 1) * tokens);
        measured[index]!.norms.push(row(0));
        measured[index]!.distances.push(Array.from({ length: before }, (_, back) => row(back + 1)));
      });
      own.put(index, scope.release(output));
    });
    await later.arrive();
    outputs.drop(layer - longest);
    onLayer();
  }
  return { measured, projected };
}

async function secondPass(
  context: MapContext,
  { measured, projected }: FirstPass,
  onLayer: () => void,
): Promise<WindowMeasure[]> {
  const { model, batches, options, longest, projection } = context;
  const { device, arch } = model;
  const rec = device.recorder;
  const rows = projection.rowCount;
  const weights = measured.map(({ norms }, index) => tokenWeights(norms, batches[index]!.weight));
  using held = new Scope(device);
  const rootsOf = weights.map(of => held.own(tensorFrom(device, Float32Array.from(of, Math.sqrt))));
  using states = new BatchTensors(device, options.placement);
  using later = new LaterDownloads(device);
  const measures: WindowMeasure[] = [];
  for (let layer = 0; layer < arch.layers - 1; layer++) {
    await model.loadLayer(layer, layer + 2 < arch.layers ? layer + 1 : undefined);
    using sums = new LayerSums(model, layer, longest, rows);
    await forEachBatchOf(context, async ({ batch, index, opened, scope }) => {
      const steps = new LayerSteps(model, layer, opened, scope);
      const input = layer === 0 ? scope.own(embedTokens(model, opened)) : await states.get(index, scope);
      const y = steps.postAttention(input, steps.attended(input));
      const features = steps.mlpFeatures(y, input);
      const mlpOutput = steps.mlpOutput(features);
      using _section = device.section('statistics');
      const roots = rootsOf[index]!;
      const m = scaledRows(scope, mlpOutput, roots);
      const { gram, products } = sums.halves[batch.half];
      matmul(rec, m, m, gram, { transposeA: true, accumulate: true });
      const own = scaledRows(scope, await projected[layer]!.get(index, scope), roots);
      matmul(rec, own, m, products.rows(0, rows), { transposeA: true, accumulate: true });
      const { tokens } = opened;
      const changes = Tensor.create(device, [sums.targets, tokens], 'f32', 'norms');
      const current = scope.tensor([tokens], 'f32', 'norms');
      const { norms, distances } = measured[index]!;
      for (let n = 0; n < sums.targets; n++) {
        const end = layer + n + 1;
        using inner = new Scope(device);
        const target = scaledRows(inner, await projected[end]!.get(index, inner), roots);
        const into = products.rows((n + 1) * rows, rows);
        matmul(rec, target, m, into, { transposeA: true, accumulate: true });
        if (batch.half === 1) {
          axpy(rec, -1, own, target);
          rowNorms(rec, target, current);
          rec.copy(current, changes.rows(n, 1));
        }
        sums.addDistances(n, batch.half, distances[end]![n]!, [norms[layer]!, norms[end]!], weights[index]!);
      }
      // Of half 0 they are not needed.
      if (batch.half === 1) {
        await later.readF32([changes], ([norms]) => addSquares(norms!, tokens, sums.projected));
      } else changes.dispose();
      states.put(index, scope.release(steps.output(y, features)));
    });
    await later.arrive();
    await sums.solve(batchedTokens(batches));
    measures.push(...sums.measures);
    onLayer();
  }
  return measures;
}
