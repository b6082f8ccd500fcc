import type { Progress } from '../engine/progress.js';

/** What every long walk over tokens takes. */
export interface WalkOptions {
  onProgress?: Progress;
  signal?: AbortSignal;
}

/** For work that reports progress but does not look at the signal: every step of it ends when the signal says so. */
export const walk = ({ onProgress, signal }: WalkOptions): WalkOptions => ({
  onProgress: event => {
    signal?.throwIfAborted();
    onProgress?.(event);
  },
  ...(signal && { signal }),
});
