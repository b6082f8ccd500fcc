import type { PrunedModel } from '../activations/prunedModel.js';
import type { PruneEvaluations } from '../evaluation/pruneEvaluation.js';
import type { OpenInputs } from '../inputs/pruneInputs.js';
import { planPrune } from '../planning/plan.js';
import type { PlannedPhase } from '../planning/timePlan.js';
import type { WindowChoice } from '../run/windowChoice.js';
import type { PruneRun } from './pruneRun.js';

/** What the report says of the models, beside the time that was planned. */
export type Measured = PruneEvaluations & { readonly phases: readonly PlannedPhase[] };

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
): Promise<Measured | undefined> {
  const { from, options, request, plan, device } = run;
  if (!inputs.evaluate || !outputs.every(Number.isFinite)) return undefined;
  const healed = request.settings.heal !== false || request.gradient?.train === 'full';
  return await run.step('evaluate', async () => ({
    phases: (await planPrune(from, { ...options, device })).phases,
    ...(await inputs.evaluate!({
      ...{ model: inputs.model, pruned, windows, healed, ...(map && { map }) },
      spareBytes: plan.memory.evaluationSpare,
    })),
  }));
}
