import { Scope } from '../engine/index.js';
import type { Progress } from '../engine/progress.js';
import { Batch } from './batch.js';
import { BatchTensors } from './batchTensors.js';
import type { Model } from './model.js';
import { forward } from './transformer.js';

/**
 * Outputs of the last layer, by group of sequences, of a model whose layers are streamed: all groups go through a layer
 * before the next one is held. They wait in the host's memory, in f32.
 */
export async function walkThrough(
  model: Model,
  groups: readonly (readonly (readonly number[])[])[],
  { onProgress, signal }: { readonly onProgress?: Progress; readonly signal?: AbortSignal } = {},
): Promise<BatchTensors> {
  const { device, arch } = model;
  const states = new BatchTensors(device, { place: 'host', dtype: 'f32' });
  for (let layer = 0; layer < arch.layers; layer++) {
    await model.hold(layer, layer + 1);
    for (const [index, group] of groups.entries()) {
      signal?.throwIfAborted();
      using batch = new Batch(device, group);
      using scope = new Scope(device);
      const input = layer > 0 ? await states.get(index, scope) : undefined;
      await states.put(index, forward(model, batch, { from: layer, to: layer + 1, ...(input && { input }) }));
    }
    onProgress?.({ phase: 'evaluate', done: layer + 1, total: arch.layers, unit: 'layers' });
  }
  return states;
}
