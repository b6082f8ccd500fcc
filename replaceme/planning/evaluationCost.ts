import { damageTokens } from '../evaluation/evaluatePruned.js';
import { SPEED_PASSES } from '../evaluation/modelMeter.js';
import { SAMPLES } from '../evaluation/samples.js';
import { layerFlopsPerToken } from '../run/computeRate.js';
import { removedLayers, type Window } from '../run/window.js';
import type { PlacedRun } from './repairFlops.js';
import { depthStepOf, judgedFlops } from './selectionFlops.js';

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
 * @param windows that go, or such as may go.
 */
export function evaluationFlops(
  run: PlacedRun,
  windows: readonly Window[],
  extent: 'full' | 'light',
): EvaluationFlops {
  const { request, evaluationTokens: tokens, batchTokens } = run;
  const { arch, method, selection, settings } = request;
  const perToken = layerFlopsPerToken(arch, run.sequenceLength);
  const keptLayers = arch.layers - removedLayers(windows).length;
  const [all, kept] = [arch.layers * perToken, keptLayers * perToken];
  const head = 2 * arch.hidden * arch.vocab;
  const repairs = method.name !== 'plain';
  // Plain removal of the chosen windows, and of the nearest window where a map knows it.
  const others =
    (repairs ? 1 : 0) +
    (extent === 'full' && repairs && !request.windows && selection.name === 'measured' ? 1 : 0);
  const step = depthStepOf(run, tokens, run.memory.evaluationSpare);
  const texts = tokens * (all + (1 + others) * judgedFlops(run, windows, step));
  if (extent === 'light') return { together: texts, oneByOne: 0 };
  // Plain removal, the fit, and what healing makes of it.
  const stages = repairs ? (settings.heal ? 3 : 2) : 1;
  const damage = Math.min(tokens, damageTokens(run.device)) * (all + stages * kept);
  const streamed = run.placement.weights !== 'device';
  // With a pass that warms up, over a quarter of a batch each; of a streamed model one layer.
  const speeds =
    ((SPEED_PASSES + 1) * Math.min(tokens, batchTokens / 4) * (all + kept)) / (streamed ? arch.layers : 1);
  const ofOne = all + Math.min(stages, 2) * kept + (repairs ? 3 : 2) * head;
  return {
    together: texts + damage + speeds + (streamed ? 0 : SAMPLES.prompts * PROMPT_TOKENS * ofOne),
    oneByOne: streamed ? 0 : SAMPLES.prompts * SAMPLES.tokens * ofOne,
  };
}
