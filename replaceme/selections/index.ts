import { didYouMean, RmError } from '../../engine/index.js';
import { angular } from './angular.js';
import { blockInfluence } from './blockInfluence.js';
import { cosine } from './cosine.js';
import { laco, lacoReleased } from './laco.js';
import { measured } from './measured.js';
import { perplexity } from './perplexity.js';
import type { Selection } from './selection.js';

export type {
  DistanceSums,
  JudgingRounds,
  MeasureSettings,
  Selection,
  SelectionContext,
  SelectionPlan,
  SelectionTokens,
} from './selection.js';

/** Every selection of `prune`. */
export const selections: readonly Selection[] = [
  cosine,
  measured,
  angular,
  blockInfluence,
  laco,
  lacoReleased,
  perplexity,
];

/** @throws RmError INVALID_ARGUMENT listing all selections. */
export function selectionNamed(name: string): Selection {
  const selection = selections.find(candidate => candidate.name === name);
  if (selection) return selection;
  const names = selections.map(candidate => candidate.name);
  throw new RmError(
    'INVALID_ARGUMENT',
    `there is no selection '${name}'`,
    `${didYouMean(name, names)}Choose one of: ${names.join(', ')}.`,
  );
}

export type {
  LayerSearch,
  MappedWindow,
  MeasuredWindows,
  WindowChoice,
  WindowScores,
} from '../run/windowChoice.js';
