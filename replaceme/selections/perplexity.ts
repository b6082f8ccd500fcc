import { type DeviceFacts, ensure, noJournal } from '../../engine/index.js';
import {
  evaluate,
  type Model,
  type ReferenceOptions,
  ReferenceStates,
  totalTokens,
} from '../../model/index.js';
import { firstSequences } from '../calibration/calibrationBatch.js';
import { windowsOf } from '../run/window.js';
import type { WindowChoice } from '../run/windowChoice.js';
import { judgingOptions } from './judgingOptions.js';
import type { Selection, SelectionContext } from './selection.js';

/** Calibration tokens for evaluating each candidate (the paper: 128 sequences of 2048). */
const lossTokens = ({ info }: DeviceFacts): number => (info.kind === 'software' ? 512 : 8192);

/**
 * The mean loss (-log p of the next token, nats) of the model without each of its layers in turn; infinity for the first
 * layer and the last one, which stay. Layers before a removed one run once for all candidates.
 */
export async function lossWithoutLayers(
  model: Model,
  sequences: readonly (readonly number[])[],
  { signal, journal = noJournal, ...sizes }: Omit<ReferenceOptions, 'onProgress'> = {},
  onCandidate: () => void = () => {},
): Promise<number[]> {
  const options = { journal, ...(signal && { signal }) };
  using prefix = await ReferenceStates.of(model, sequences, { ...options, ...sizes });
  const layers = Array.from({ length: model.arch.layers }, (_, layer) => layer);
  const losses = layers.map(() => Number.POSITIVE_INFINITY);
  for (const layer of layers.slice(1, -1)) {
    const without = model.withLayers(layers.filter(other => other !== layer));
    losses[layer] = (await evaluate(without, sequences, { ...options, prefix })).nll;
    onCandidate();
  }
  return losses;
}

/** Number of evaluated models: in each of `count` rounds one per remaining layer, except the first and the last. */
const candidatesOf = (layers: number, count: number): number =>
  Array.from({ length: count }, (_, gone) => layers - gone - 2).reduce((a, b) => a + b, 0);

async function select(context: SelectionContext): Promise<WindowChoice> {
  const { model, batches, count, onProgress, signal, journal = noJournal } = context;
  const { layers } = model.arch;
  ensure(
    count <= layers - 2,
    `selection by perplexity keeps the first layer and the last one, so it can't remove ${count} of ${layers} layers`,
    `Remove at most ${layers - 2} layers, or choose another selection.`,
  );
  const sequences = firstSequences(batches, lossTokens(model.device));
  const total = candidatesOf(layers, count);
  let done = 0;
  const onCandidate = () => onProgress?.({ phase: 'perplexity', done: ++done, total, unit: 'candidates' });
  const keep = Array.from({ length: layers }, (_, layer) => layer);
  const removed: number[] = [];
  while (removed.length < count) {
    const losses = await journal.step('round', () =>
      lossWithoutLayers(
        model.withLayers(keep),
        sequences,
        { ...judgingOptions(context), journal, ...(signal && { signal }) },
        onCandidate,
      ),
    );
    removed.push(...keep.splice(losses.indexOf(Math.min(...losses)), 1));
  }
  const by = `perplexity on ${totalTokens(sequences)} tokens, one layer after the other`;
  return { windows: windowsOf(removed), by };
}

export const perplexity: Selection = {
  name: 'perplexity',
  summary: 'one layer after the other, always the one whose removal costs the least likelihood (slow)',
  source: 'Song et al., SLEB, arXiv:2402.09025',
  judgesText: true,
  select,
  tokens: ({ device, layers, count, tokens }) =>
    Math.min(tokens, lossTokens(device)) * (count + candidatesOf(layers, count) / 2),
  memory: ({ device, tokens }) => ({ judged: Math.min(tokens, lossTokens(device)) }),
};
