import { massiveRows } from './massiveActivations.js';

/**
 * Marks the tokens that later layers use as attention sinks: the first of every sequence, and every token with a massive
 * activation.
 *
 * @param norms |L| of every token of a batch, sequences one after the other.
 */
export function findSinks(norms: Float32Array, sequences: readonly { readonly length: number }[]): boolean[] {
  const sinks = massiveRows(norms);
  let first = 0;
  for (const { length } of sequences) {
    if (length > 0) sinks[first] = true;
    first += length;
  }
  return sinks;
}
