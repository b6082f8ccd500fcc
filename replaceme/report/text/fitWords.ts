import type { ClosedFormHealing } from '../../options/healingWords.js';

/** The names of a method's numbers in words. */
const words: Readonly<Record<string, string>> = {
  tokens: 'tokens fitted on',
  attentionRidge: 'ridge of o_proj',
  ridge: 'ridge of down_proj',
  heldOutResidual: 'error left on held-out tokens',
  tokenResidual: 'error left on ordinary tokens',
  sinkResidual: 'error left on attention sinks',
  relativeResidual: 'error left',
  plainRelativeResidual: 'error without repair',
  conditionEstimate: 'condition of the Gram matrix',
  solverIterations: 'refinements of the solution',
  solverRelativeResidual: 'error of the solution',
  healedProjections: 'projections refitted after the cut',
  refusedProjections: 'projections better left alone',
  healingRidges: 'ridges after the cut, o_proj/down_proj',
  healed: 'healed after the cut',
  heldOutKlOfBoth: 'held-out KL with o_proj and down_proj healed',
  heldOutKlOfOProj: 'held-out KL with o_proj healed',
  lastTokenResidual: 'error left after the last layer',
};

/** The name of a method's number in words: "3: ridge" becomes "layer 3: ridge of down_proj". */
export function fitInWords(name: string): string {
  const [, layer, own = name] = /^(\d+): (.*)$/.exec(name) ?? [];
  return `${layer === undefined ? '' : `layer ${layer}: `}${Object.hasOwn(words, own) ? words[own] : own}`;
}

/** Closed-form healing as a recipe has it, in words; none where there is none. */
export const closedFormInWords = ({ heal }: { readonly heal: ClosedFormHealing }): string[] =>
  heal ? [`closed-form healing${heal === 'o-proj' ? ' of o_proj' : ''}`] : [];
