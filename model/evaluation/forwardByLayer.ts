import { type Device, type Journal, noJournal, type Progress, Scope } from '../../engine/index.js';
import { Batch } from '../transformer/batch.js';
import { BatchTensors } from '../transformer/batchTensors.js';
import type { Model } from '../transformer/model.js';
import { forward } from '../transformer/transformer.js';

/** States that wait in the host's memory, in f32. */
export const waitingStates = (device: Device): BatchTensors =>
  new BatchTensors(device, { place: 'host', dtype: 'f32' });

/**
 * Outputs of the last layer, by group of sequences, of a model whose layers are streamed: all groups go through a layer
 * before the next one is held.
 *
 * @param states nothing yet, or what an earlier process has left.
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
