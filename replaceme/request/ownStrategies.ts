import { callable, checkArguments, ensure, type Form, flag, Tensor, text } from '../../engine/index.js';
import type { Model } from '../../model/index.js';
import type { Repair } from '../fits/repair.js';
import { type Method, methodNamed, methods } from '../methods/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { keptLayers, type Window } from '../run/window.js';
import { type Selection, selectionNamed, selections } from '../selections/index.js';

/** Settings of `prune`, with methods and selections that may be the caller's own. */
export interface OwnPruneOptions extends Omit<PruneOptions, 'method' | 'select'> {
  /** The name of one of `methods`, or a method of your own under another name. */
  method?: string | Method;
  /** The name of one of `selections`, or a selection of your own under another name. */
  select?: string | Selection;
}

/** What every method and every selection has; the rest is read where it is there. */
const methodParts = { name: text, summary: text, source: text, selection: text, needsCalibration: flag };
const selectionParts = { name: text, summary: text, source: text };

/** One of ours by its name, or the caller's own, which has these parts and a name that none of ours has. */
function chosen<T extends { readonly name: string }>(
  what: 'method' | 'select',
  given: string | T,
  named: (name: string) => T,
  ours: readonly T[],
  parts: Readonly<Record<string, Form<unknown>>>,
): T {
  if (typeof given === 'string') return named(given);
  if (ours.includes(given)) return given;
  checkArguments(
    `\`${what}\``,
    given as object,
    parts as never,
    `See the declaration of ${what === 'method' ? 'Method' : 'Selection'}.`,
  );
  ensure(
    ours.every(({ name }) => name !== given.name),
    `\`${what}\` of your own is called '${given.name}', as one of rm-engine's is`,
    'Give it another name: reports and interrupted runs know it by that.',
  );
  return given;
}

/** The method that options name or bring. @throws RmError INVALID_ARGUMENT. */
export const methodOf = (given: string | Method): Method =>
  chosen('method', given, methodNamed, methods, { ...methodParts, repair: callable });

/** The selection that options name or bring. @throws RmError INVALID_ARGUMENT. */
export const selectionOf = (given: string | Selection): Selection =>
  chosen('select', given, selectionNamed, selections, { ...selectionParts, select: callable });

/** The options as reports and journals keep them: methods and selections by name. */
export function namedOptions({ method, select, ...options }: OwnPruneOptions): PruneOptions {
  // What is neither name nor object is refused when values are checked.
  const nameOf = (given: string | { readonly name: string }) =>
    typeof given === 'object' && given !== null && 'name' in given ? given.name : given;
  return {
    ...options,
    ...(method !== undefined && { method: nameOf(method) }),
    ...(select !== undefined && { select: nameOf(select) }),
  };
}

/** Throws INVALID_ARGUMENT unless a method of the caller's own returned weights that the model can have. */
export function checkRepair(repair: Repair, model: Model, windows: readonly Window[], of: Method): void {
  if (methods.includes(of)) return;
  const method = of.name;
  const fix = 'Return { changes: { layers: Map of layer to { name: tensor } }, details }.';
  const { changes, details } = repair ?? {};
  ensure(
    typeof changes === 'object' && changes !== null && typeof details === 'object' && details !== null,
    `the method ${method} returned no repair`,
    fix,
  );
  const kept = keptLayers(windows, model.arch.layers);
  for (const [layer, weights] of changes.layers ?? []) {
    ensure(kept.includes(layer), `the method ${method} changes layer ${layer}, which does not stay`, fix);
    const before: Readonly<Record<string, Tensor | undefined>> = { ...model.weights.layers[layer] };
    const square = `${model.arch.hidden},${model.arch.hidden}`;
    for (const [name, tensor] of Object.entries(weights)) {
      if (tensor === undefined) continue;
      ensure(tensor instanceof Tensor, `the method ${method}: ${name} of layer ${layer} is no tensor`, fix);
      const shape = name === 'mlpMap' || name === 'residualMap' ? square : before[name]?.shape.join();
      ensure(
        shape === undefined || shape === tensor.shape.join(),
        `the method ${method}: ${name} of layer ${layer} is [${tensor.shape}], not [${shape}]`,
        fix,
      );
    }
  }
}
