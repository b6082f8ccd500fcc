import type { Progress } from '../engine/progress.js';

/** What every long walk over tokens takes. */
export interface WalkOptions {
  onProgress?: Progress;
  signal?: AbortSignal;
}
