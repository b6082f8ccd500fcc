import type { Journal, Progress } from '../../engine/index.js';

/** What a long run over tokens reports to and obeys. */
export interface RunHooks {
  onProgress?: Progress;
  signal?: AbortSignal;
  /** Records finished work so that another process can resume the run. */
  journal?: Journal;
  /** Is told in a sentence what a user should know while the run goes on. */
  onNotice?: (text: string) => void;
}

/** Picks the hooks of a larger object. Progress throws when the signal aborts, for work that doesn't look at the signal. */
export const runHooks = ({ onProgress, signal, journal, onNotice }: RunHooks): RunHooks => ({
  onProgress: event => {
    signal?.throwIfAborted();
    onProgress?.(event);
  },
  ...(signal && { signal }),
  ...(journal && { journal }),
  ...(onNotice && { onNotice }),
});
