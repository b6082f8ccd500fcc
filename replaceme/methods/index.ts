import { didYouMean, RmError } from '../../engine/index.js';
import { laco, lacoReleased } from './laco.js';
import { linearPatch, linearPatchDiagonal } from './linearPatch.js';
import type { Method } from './method.js';
import { plain } from './plain.js';
import { pruneAndComp } from './pruneAndComp.js';
import { refit, refitHeal } from './refit.js';
import { replacemeCosine } from './replacemeCosine.js';
import { replacemeLs } from './replacemeLs.js';
import { replacemeDiagonal, replacemeOrthogonal } from './replacemeStructured.js';
import { shortgpt } from './shortgpt.js';
import { sleb } from './sleb.js';
import { streamline } from './streamline.js';
import { transplant, transplantHeal } from './transplant.js';
import { uidl } from './uidl.js';

export { type Method, unreadSettings } from './method.js';

/** Every method of `prune`. */
export const methods: readonly Method[] = [
  refit,
  refitHeal,
  transplant,
  transplantHeal,
  replacemeLs,
  replacemeCosine,
  replacemeDiagonal,
  replacemeOrthogonal,
  plain,
  uidl,
  streamline,
  shortgpt,
  sleb,
  laco,
  lacoReleased,
  pruneAndComp,
  linearPatch,
  linearPatchDiagonal,
];

/** @throws RmError INVALID_ARGUMENT listing all methods. */
export function methodNamed(name: string): Method {
  const method = methods.find(candidate => candidate.name === name);
  if (method) return method;
  const names = methods.map(candidate => candidate.name);
  throw new RmError(
    'INVALID_ARGUMENT',
    `there is no method '${name}'`,
    `${didYouMean(name, names)}Choose one of: ${names.join(', ')}.`,
  );
}

export type {
  AccumulateContext,
  Repair,
  RepairContext,
  RepairDetails,
  RepairSettings,
} from '../fits/repair.js';
