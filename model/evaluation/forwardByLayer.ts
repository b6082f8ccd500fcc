import { type Device, type Journal, noJournal, OneAhead, type Progress, Scope } from '../../engine/index.js';
import type { Batch } from '../transformer/batch.js';
import { BatchTensors } from '../transformer/batchTensors.js';
import type { Model } from '../transformer/model.js';
import { forward } from '../transformer/transformer.js';

/** Creates storage for hidden states in host memory, in f32. */
export const createHostStates = (device: Device): BatchTensors =>
  new BatchTensors(device, { place: 'host', dtype: 'f32' });

/**
 * Runs an offloaded model over batches: all of them go through one layer before the next layer is loaded. Stores the outputs
 * of the last layer in `states`, by batch.
 *
 * @param open makes the batch of an index below `count`.
 * @param states empty, or restored from an earlier process.
 */
export async function forwardByLayer(
  model: Model,
  count: number,
  open: (index: number) => Batch,
  states: BatchTensors,
  {
    onProgress,
    signal,
    journal = noJournal,
    phase = 'evaluate',
  }: {
    readonly onProgress?: Progress | undefined;
    readonly signal?: AbortSignal | undefined;
    readonly journal?: Journal;
    readonly phase?: string;
  } = {},
): Promise<void> {
  const { device, arch } = model;
  const ahead = new OneAhead(device);
  await journal.forEach(
    'layers',
    arch.layers,
    async layer => {
      await model.loadLayer(layer, layer + 1);
      await journal.forEach('batches', count, async index => {
        signal?.throwIfAborted();
        device.profiler?.count('batches');
        using batch = open(index);
        using scope = new Scope(device);
        const input = layer > 0 ? await states.get(index, scope) : undefined;
        states.put(index, forward(model, batch, { from: layer, to: layer + 1, ...(input && { input }) }));
        await ahead.turn();
      });
      await ahead.finish();
    },
    layer => onProgress?.({ phase, done: layer + 1, total: arch.layers, unit: 'layers' }),
  );
}
