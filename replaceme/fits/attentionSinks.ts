/** A row with a norm above this many medians carries a massive activation. */
const MASSIVE = 10;

/**
 * Marks the tokens that later layers use as attention sinks: the first of every sequence, and every token with a norm far
 * above the median (Sun et al., Massive Activations in Large Language Models, arXiv:2402.17762).
 *
 * @param norms |L| of every token of a batch, sequences one after the other.
 */
export function findSinks(norms: Float32Array, sequences: readonly { readonly length: number }[]): boolean[] {
  const median = [...norms].sort((a, b) => a - b)[Math.floor(norms.length / 2)] ?? 0;
  const sinks = Array.from(norms, norm => norm > MASSIVE * median);
  let first = 0;
  for (const { length } of sequences) {
    if (length > 0) sinks[first] = true;
    first += length;
  }
  return sinks;
}
