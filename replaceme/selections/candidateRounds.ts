import { noJournal } from '../../engine/index.js';
import { PrunedModel } from '../activations/prunedModel.js';
import type { RepairContext } from '../fits/repair.js';
import type { Method } from '../methods/method.js';
import { keptLayers, type Window } from '../run/window.js';
import type { Judges, Scores } from './judges.js';

/** How candidates are repaired, and who judges them. */
export interface Round {
  readonly method: Method;
  readonly context: RepairContext;
  readonly judges: Judges;
}

type Sets = readonly (readonly Window[])[];

/** Whether the windows of a set may be repaired one by one: each repair changes the layer before its window alone. */
export const repairsApart = ({ changes }: Pick<Method, 'changes'>): boolean => changes !== 'all before';

const nameOf = ({ layer, count }: Window): string => `${layer} ${count}`;

/** The windows of all sets, each once. */
export const windowsOfAll = (sets: Sets): Window[] => [
  ...new Map(sets.flat().map(window => [nameOf(window), window])).values(),
];

/**
 * A first look at candidates, by a part of the held-out tokens. Sets have windows in common, so each window is repaired once,
 * on the original model's hidden states, and a candidate is the model with the repairs of its windows: how one changes the
 * inputs of the next is left out. Where a method changes all layers before a window, each set is repaired as a whole.
 */
export async function firstRound(candidates: Sets, round: Round): Promise<Scores[]> {
  const { method, context, judges } = round;
  const { model } = context;
  if (!repairsApart(method)) return await judgeAll('candidates', candidates, round, 'byFirst');
  const repaired = new Map<string, PrunedModel>();
  try {
    await inTurn('windows', windowsOfAll(candidates), round, async (window, step) => {
      const { changes } = await step(() => method.repair(context, [window]));
      repaired.set(nameOf(window), new PrunedModel(model, [window], changes));
    });
    return await inTurn('candidates', candidates, round, (windows, step) => {
      const layers = new Map(windows.flatMap(window => [...repaired.get(nameOf(window))!.layers]));
      return step(() => judges.byFirst(model.withLayers(keptLayers(windows, model.arch.layers), { layers })));
    });
  } finally {
    for (const pruned of repaired.values()) pruned[Symbol.dispose]();
  }
}

/** Candidates as they would be written, by all held-out tokens. */
export const lastRound = (finalists: Sets, round: Round): Promise<Scores[]> =>
  judgeAll('finalists', finalists, round, 'byAll');

function judgeAll(phase: string, sets: Sets, round: Round, by: 'byFirst' | 'byAll'): Promise<Scores[]> {
  const { method, context, judges } = round;
  return inTurn(phase, sets, round, (windows, step) =>
    step(async () => {
      const { changes } = await method.repair(context, windows);
      using pruned = new PrunedModel(context.model, windows, changes);
      return await judges[by](pruned.model);
    }),
  );
}

/** Visits all items in order and tells how many are done. @param visit `step` runs a step of the journal. */
async function inTurn<Item, Result>(
  phase: string,
  items: readonly Item[],
  { context: { model, journal = noJournal, onProgress, signal } }: Round,
  visit: (item: Item, step: <T>(compute: () => Promise<T>) => Promise<T>) => Promise<Result>,
): Promise<Result[]> {
  using _section = model.device.section(phase);
  const results: Result[] = [];
  for (const item of items) {
    onProgress?.({ phase, done: results.length, total: items.length, unit: phase });
    signal?.throwIfAborted();
    results.push(await visit(item, compute => journal.step(phase, compute)));
  }
  onProgress?.({ phase, done: items.length, total: items.length, unit: phase });
  return results;
}
