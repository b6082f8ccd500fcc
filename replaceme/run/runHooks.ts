import { type Journal, noJournal, type Progress } from '../../engine/index.js';
import { totalTokens } from '../../model/index.js';

/** What every long walk over tokens takes. */
export interface RunHooks {
  onProgress?: Progress;
  signal?: AbortSignal;
  /** Keeps what is done, for another process to go on from. */
  journal?: Journal;
}

/** For work that reports progress but does not look at the signal: every step of it ends when the signal says so. */
export const runHooks = ({ onProgress, signal, journal }: RunHooks): RunHooks => ({
  onProgress: event => {
    signal?.throwIfAborted();
    onProgress?.(event);
  },
  ...(signal && { signal }),
  ...(journal && { journal }),
});

/**
 * Visits batches (or groups of sequences) one after the other, from the first that no earlier process has done.
 *
 * @param name tells what it is about, in progress too.
 * @param sequencesOf the sequences of a batch, whose tokens progress counts.
 */
export async function forEachGroup<T>(
  { journal = noJournal, signal, onProgress }: RunHooks,
  name: string,
  batches: readonly T[],
  sequencesOf: (batch: T) => readonly { readonly length: number }[],
  visit: (batch: T, index: number) => Promise<void>,
): Promise<void> {
  const ends: number[] = [];
  for (const batch of batches) ends.push((ends.at(-1) ?? 0) + totalTokens(sequencesOf(batch)));
  await journal.forEach(
    name,
    batches.length,
    async index => {
      signal?.throwIfAborted();
      await visit(batches[index]!, index);
    },
    index => onProgress?.({ phase: name, done: ends[index]!, total: ends.at(-1)!, unit: 'tokens' }),
  );
}
