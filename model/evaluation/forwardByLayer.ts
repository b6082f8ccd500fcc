import { type Device, type Journal, noJournal, type Progress, Scope } from '../../engine/index.js';
import { Batch } from '../transformer/batch.js';
import { BatchTensors } from '../transformer/batchTensors.js';
import type { Model } from '../transformer/model.js';
import { forward } from '../transformer/transformer.js';

/** Creates storage for hidden states in host memory, in f32. */
export const createHostStates = (device: Device): BatchTensors =>
  new BatchTensors(device, { place: 'host', dtype: 'f32' });

/**
 * Runs an offloaded model over groups of sequences: all groups go through one layer before the next layer is loaded. Stores
 * the outputs of the last layer in `states`, by group.
 *
 * @param states empty, or restored from an earlier process.
 */
export async function forwardByLayer(
  model: Model,
  groups: readonly (readonly (readonly number[])[])[],
  states: BatchTensors,
  {
    onProgress,
    signal,
    journal = noJournal,
  }: { readonly onProgress?: Progress; readonly signal?: AbortSignal; readonly journal?: Journal } = {},
): Promise<void> {
  const { device, arch } = model;
  await journal.forEach(
    'layers',
    arch.layers,
    async layer => {
      await model.loadLayer(layer, layer + 1);
      await journal.forEach('batches', groups.length, async index => {
        signal?.throwIfAborted();
        using batch = new Batch(device, groups[index]!);
        using scope = new Scope(device);
        const input = layer > 0 ? await states.get(index, scope) : undefined;
        await states.put(
          index,
          forward(model, batch, { from: layer, to: layer + 1, ...(input && { input }) }),
        );
      });
    },
    layer => onProgress?.({ phase: 'evaluate', done: layer + 1, total: arch.layers, unit: 'layers' }),
  );
}
