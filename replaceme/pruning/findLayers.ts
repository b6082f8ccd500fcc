import { noJournal, RmError } from '../../engine/index.js';
import { evaluate, ReferenceStates, totalTokens } from '../../model/index.js';
import { PrunedModel } from '../activations/prunedModel.js';
import { TRIES } from '../planning/timePlan.js';
import type { DamageBudget } from '../request/layerBudget.js';
import type { WindowChoice } from '../run/windowChoice.js';
import type { SelectionContext } from '../selections/index.js';
import { judgingOptions } from '../selections/judgingOptions.js';
import type { PruneRun } from './pruneRun.js';
import { type LayerTrial, searchLayers } from './searchLayers.js';

type Context = Omit<SelectionContext, 'count' | 'windowCount' | 'apart' | 'method'>;

/** A number of layers that was tried, and the windows that it chose. */
interface Trial extends LayerTrial {
  readonly choice: WindowChoice;
}

/**
 * Removes as many layers as a budget allows: chooses, repairs and measures for several numbers of layers.
 *
 * @param sequences held-out text that no fit has seen.
 * @throws RmError INVALID_ARGUMENT where even one layer costs more.
 */
export async function findLayers(
  run: PruneRun,
  { states: _, statistics: __, onNotice: ___, ...context }: Context,
  budget: DamageBudget,
  sequences: readonly (readonly number[])[],
): Promise<WindowChoice> {
  const { method, selection, arch } = run.request;
  const { model, onProgress, signal, journal = noJournal } = context;
  const alone = { method, windowCount: 1, apart: false };
  const hooks = { ...(signal && { signal }), journal };
  using reference = await ReferenceStates.of(model, sequences, {
    ...judgingOptions({ ...context, ...alone, count: 1 }),
    ...hooks,
  });
  let tried = 0;
  const tell = (trial?: LayerTrial) =>
    onProgress?.({
      // How many it will be is not known before the last.
      ...{ phase: 'numbers of layers', done: tried, total: Math.max(TRIES, tried + 1), unit: 'attempts' },
      ...(trial && { detail: `${trial.layers} layers: KL ${trial.kl.toPrecision(3)}` }),
    });
  const measure = async (count: number): Promise<Trial> => {
    const choice = await selection.select({ ...context, ...alone, count });
    const repair = await method.repair(context, choice.windows);
    using pruned = new PrunedModel(model, choice.windows, repair.changes);
    const { kl, top1 } = await evaluate(pruned.model, sequences, { against: reference, ...hooks });
    return { layers: count, kl: kl!, top1: top1!, choice };
  };
  const { trials, layers } = await searchLayers(arch.layers - 1, budget, async count => {
    const trial = await journal.step(`remove ${count}`, () => measure(count));
    tried++;
    tell(trial);
    return trial;
  });
  const found = trials.find(trial => trial.layers === layers);
  if (!found) throw tooTight(budget, trials[0]!);
  return {
    ...found.choice,
    search: {
      budget,
      tokens: totalTokens(sequences),
      trials: trials.map(({ choice: _choice, ...trial }) => trial),
    },
  };
}

function tooTight(budget: DamageBudget, { kl, top1 }: LayerTrial): RmError {
  const [name, cost, allowed] =
    'maxKl' in budget
      ? (['maxKl', `a KL of ${kl.toPrecision(3)}`, `${budget.maxKl}`] as const)
      : (['keepTop1', `a top-1 agreement of ${top1.toFixed(3)}`, `${budget.keepTop1}`] as const);
  return new RmError(
    'INVALID_ARGUMENT',
    `removing a single layer leaves ${cost} on held-out text, and \`${name}\` allows ${allowed}`,
    `Allow more by \`${name}\`, give more \`calibration\`, or choose a \`method\` that repairs more.`,
  );
}
