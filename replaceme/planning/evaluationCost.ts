import { damageTokens } from '../evaluation/evaluatePruned.js';
import { SPEED_PASSES } from '../evaluation/modelMeter.js';
import { SAMPLES } from '../evaluation/samples.js';
import type { Placement } from './memoryParts.js';
import type { MemorySizes } from './memorySteps.js';

/** FLOPs of many tokens at a time, and of tokens that a model writes one by one. */
export interface EvaluationFlops {
  readonly together: number;
  readonly oneByOne: number;
}

/** Tokens of a prompt, about. */
const PROMPT_TOKENS = 40;

/**
 * What measuring the unpruned model, plain removal and the result computes.
 *
 * @param count removed layers.
 * @param perToken FLOPs of one layer for one token.
 */
export function evaluationFlops(
  run: MemorySizes & { readonly placement: Placement },
  count: number,
  perToken: number,
  extent: 'full' | 'light',
): EvaluationFlops {
  const { request, evaluationTokens: tokens, batchTokens } = run;
  const { arch, method, selection, windows } = request;
  const [all, kept] = [arch.layers * perToken, (arch.layers - count) * perToken];
  const head = 2 * arch.hidden * arch.vocab;
  const repairs = method.name !== 'plain';
  // Plain removal of the chosen windows, and of the nearest window where a map knows it.
  const others =
    (repairs ? 1 : 0) + (extent === 'full' && repairs && !windows && selection.name === 'measured' ? 1 : 0);
  const texts = tokens * (all + (1 + others) * (kept + 2 * head));
  if (extent === 'light') return { together: texts, oneByOne: 0 };
  const stages = repairs ? 2 : 1;
  const damage = damageTokens(run.device) * (all + stages * kept);
  // With a pass that warms up, over a quarter of a batch each.
  const speeds = ((SPEED_PASSES + 1) * batchTokens * (all + kept)) / 4;
  const ofOne = all + stages * kept + (1 + stages) * head;
  const streamed = run.placement.weights !== 'device';
  return {
    together: texts + damage + speeds + (streamed ? 0 : SAMPLES.prompts * PROMPT_TOKENS * ofOne),
    oneByOne: streamed ? 0 : SAMPLES.prompts * SAMPLES.tokens * ofOne,
  };
}
