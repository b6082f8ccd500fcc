import { noJournal } from '../../engine/index.js';
import { type Model, totalTokens } from '../../model/index.js';
import type { RunHooks } from './runHooks.js';

/**
 * Visits groups of sequences one after the other, starting at the first that no earlier process has finished.
 *
 * @param name identifies the loop in the journal and in progress.
 * @param sequencesOf the sequences of a group, whose tokens progress counts.
 */
export async function forEachGroup<T>(
  { journal = noJournal, signal, onProgress }: RunHooks,
  name: string,
  groups: readonly T[],
  sequencesOf: (group: T) => readonly { readonly length: number }[],
  visit: (group: T, index: number) => Promise<void>,
): Promise<void> {
  const ends: number[] = [];
  for (const group of groups) ends.push((ends.at(-1) ?? 0) + totalTokens(sequencesOf(group)));
  await journal.forEach(
    name,
    groups.length,
    async index => {
      signal?.throwIfAborted();
      await visit(groups[index]!, index);
    },
    index => onProgress?.({ phase: name, done: ends[index]!, total: ends.at(-1)!, unit: 'tokens' }),
  );
}

/**
 * Groups that go through the layers together: each item alone while the model is on the device; all items together when
 * its layers are offloaded, so that each layer is uploaded once.
 */
export const layerwiseGroups = <T>({ isOffloaded }: Model, items: readonly T[]): T[][] =>
  isOffloaded ? [[...items]] : items.map(item => [item]);
