import type { PrunedModel } from '../activations/prunedModel.js';
import type { PruneEvaluations } from '../evaluation/pruneEvaluation.js';
import type { OpenInputs } from '../inputs/pruneInputs.js';
import { secondsOf } from '../planning/timePlan.js';
import type { Phase, PhaseName } from '../run/phaseClock.js';
import { chooseExtent, extentInWords, type ReportExtent } from '../run/reportExtent.js';
import type { WindowChoice } from '../run/windowChoice.js';
import type { PruneRun } from './pruneRun.js';

/** The phases whose time says how fast this machine computes. */
const computing: readonly PhaseName[] = ['select', 'fit', 'heal'];

/** Seconds of these phases for each that was planned; 1 where none has run. */
export function paceOf(
  planned: readonly Pick<Phase, 'name' | 'seconds'>[],
  took: readonly Pick<Phase, 'name' | 'seconds'>[],
): number {
  const sum = (phases: readonly Pick<Phase, 'name' | 'seconds'>[]) =>
    phases.reduce((total, { name, seconds }) => total + (computing.includes(name) ? seconds : 0), 0);
  return sum(took) > 0 && sum(planned) > 0 ? sum(took) / sum(planned) : 1;
}

/** How much to measure, by the time that the run has taken so far. A resumed run measures as much. */
export const reportExtent = (run: PruneRun): Promise<ReportExtent> =>
  run.journal.step('extent of the report', async () => {
    const { clock, plan, time, options } = run;
    if (!time.evaluation) return time.report;
    const pace = paceOf(time.phases, clock.phases);
    const after = time.phases.filter(({ name }) => name === 'write' || name === 'verify');
    const extent = chooseExtent(
      plan.report,
      {
        rest: clock.seconds + secondsOf(after),
        full: pace * time.evaluation.full,
        light: pace * time.evaluation.light,
      },
      plan.fixedTokens,
    );
    const said = extentInWords(extent);
    if (said) options.onNotice?.(said);
    return extent;
  });

/**
 * Evaluates the original model, plain removal and the result; undefined without a report, and where the result's outputs are
 * not finite, which is refused when it is verified.
 *
 * @throws RmError NOT_FINITE where a model assigns no finite likelihood to a text.
 */
export async function measure(
  run: PruneRun,
  inputs: OpenInputs,
  pruned: PrunedModel,
  { windows, map }: WindowChoice,
  outputs: Float32Array,
  extent: ReportExtent,
): Promise<PruneEvaluations | undefined> {
  const { request, plan } = run;
  if (!inputs.evaluate || !outputs.every(Number.isFinite)) return undefined;
  const healed = request.settings.heal !== false || request.gradient?.train === 'full';
  return await run.step('evaluate', () =>
    inputs.evaluate!(
      {
        ...{ model: inputs.model, pruned, windows, healed, ...(map && { map }) },
        spareBytes: plan.memory.evaluationSpare,
      },
      extent,
    ),
  );
}
