import { ensure, RmError, seededRandom } from '../../engine/index.js';

/** How the next token is chosen. */
export interface SamplingOptions {
  /** 0 (default): always the most likely token. */
  temperature?: number;
  /** Sample from the k most likely tokens only (0: all). */
  topK?: number;
  /** Sample from the most likely tokens that together reach this probability (1: all). */
  topP?: number;
  /** The same seed, model and adapter give the same text (default 0). */
  seed?: number;
}

function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

/** The error for NaN or infinite logits. */
export const notFiniteLogits = (): RmError =>
  new RmError(
    'NOT_FINITE',
    'the model gives NaN or infinite logits',
    'The model is damaged: check its weights and how it was made.',
  );

/**
 * Creates a function from logits [vocab] to the next token id; it throws NOT_FINITE if a logit is NaN or infinite.
 *
 * @throws RmError INVALID_ARGUMENT for a temperature below 0, or a topP outside (0, 1].
 */
export function createSampler(options: SamplingOptions = {}): (logits: Float32Array) => number {
  const { temperature = 0, topK = 0, topP = 1, seed = 0 } = options;
  ensure(temperature >= 0, `the temperature is ${temperature}`, 'Give a number of 0 or more.');
  ensure(topP > 0 && topP <= 1, `topP is ${topP}`, 'Give a number above 0 and at most 1.');
  const random = seededRandom(seed);
  return logits => {
    if (!logits.every(Number.isFinite)) throw notFiniteLogits();
    const best = mostLikely(logits);
    if (temperature === 0) return best;
    const largest = logits[best]!;
    const weights = new Float64Array(logits.length);
    let total = 0;
    for (let id = 0; id < logits.length; id++) {
      weights[id] = Math.exp((logits[id]! - largest) / temperature);
      total += weights[id]!;
    }
    // All tokens below this together weigh less than the share that topP excludes: they need not be sorted.
    const least = topK > 0 ? 0 : ((1 - topP) * total) / logits.length;
    let tokens: { id: number; weight: number }[] = [];
    for (let id = 0; id < logits.length; id++) {
      if (weights[id]! >= least) tokens.push({ id, weight: weights[id]! });
    }
    if (topK > 0 || topP < 1) {
      tokens.sort((a, b) => b.weight - a.weight || a.id - b.id);
      if (topK > 0) tokens = tokens.slice(0, topK);
      const most = topK > 0 ? tokens.reduce((sum, { weight }) => sum + weight, 0) : total;
      let reached = 0;
      const end = tokens.findIndex(({ weight }) => {
        reached += weight;
        return reached >= topP * most;
      });
      if (end >= 0) tokens = tokens.slice(0, end + 1);
    }
    let left = random() * tokens.reduce((sum, { weight }) => sum + weight, 0);
    for (const { id, weight } of tokens) {
      left -= weight;
      if (left < 0) return id;
    }
    return tokens.at(-1)!.id;
  };
}
