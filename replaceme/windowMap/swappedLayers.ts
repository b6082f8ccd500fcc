import { evaluate, type Model, type ReferenceOptions, ReferenceStates } from '../../model/index.js';
import type { RunHooks } from '../run/runHooks.js';

/** Two neighbouring layers, and what the model loses when they change places. */
export interface SwappedLayers {
  /** The first of them; the other is `layer + 1`. */
  readonly layer: number;
  /** Mean KL(original || model with the two layers swapped) in nats. */
  readonly kl: number;
}

/**
 * Measures what each swap of two neighbouring layers does to the model's predictions. Layers that can change places work
 * beside each other rather than one upon the other (Sun et al., Transformer Layers as Painters, arXiv:2407.09298).
 *
 * Each swap runs the layers from the swapped ones on, and the output head, over all sequences. The model must be on the
 * device as a whole.
 *
 * @throws RmError as `evaluate`.
 */
export async function swapNeighbours(
  model: Model,
  sequences: readonly (readonly number[])[],
  { onProgress, signal, ...sizes }: RunHooks & Pick<ReferenceOptions, 'batchTokens' | 'stateBytes'> = {},
): Promise<SwappedLayers[]> {
  const { device, arch } = model;
  using _section = device.section('swaps');
  using against = await ReferenceStates.of(model, sequences, { ...sizes, ...(signal && { signal }) });
  const order = Array.from({ length: arch.layers }, (_, layer) => layer);
  const swaps: SwappedLayers[] = [];
  for (const layer of order.slice(0, -1)) {
    const swapped = model.withLayers(order.with(layer, layer + 1).with(layer + 1, layer));
    const { kl } = await evaluate(swapped, sequences, { against, ...(signal && { signal }) });
    swaps.push({ layer, kl: kl! });
    onProgress?.({ phase: 'swaps', done: layer + 1, total: arch.layers - 1, unit: 'pairs of layers' });
  }
  return swaps;
}
