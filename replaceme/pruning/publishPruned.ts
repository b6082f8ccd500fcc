import { type Architecture, leftOutWarnings, modelWarnings } from '../../model/index.js';
import type { PrunedModel } from '../activations/prunedModel.js';
import { cappedSequences, cappedTokens } from '../calibration/cappedTokens.js';
import { calibrationWarnings } from '../calibration/readCalibration.js';
import type { PruneEvaluation, PruneEvaluations } from '../evaluation/pruneEvaluation.js';
import { damageWarnings, type VerdictFacts, verdictOf } from '../evaluation/verdict.js';
import type { Repair } from '../fits/repair.js';
import { type HealingRecord, healingWarnings } from '../healing/gradientHealing.js';
import type { OpenInputs } from '../inputs/pruneInputs.js';
import { methods } from '../methods/index.js';
import { givesTexts } from '../options/pruneOptions.js';
import { offloadOf } from '../planning/loadPlanned.js';
import { recipeFile } from '../report/card/recipeFile.js';
import { publish } from '../report/publish.js';
import { repeatOf } from '../report/repeat.js';
import { exactnessWarnings, reportHead, reportModel } from '../report/reportHead.js';
import type { PruneReport } from '../report/schema/schema.js';
import { pruneSentence } from '../report/sentence.js';
import { needsCalibration } from '../request/needs.js';
import { checkPrunedOutput } from '../request/request.js';
import { layerFlops } from '../run/computeRate.js';
import type { ReportExtent } from '../run/reportExtent.js';
import { describeWindows, removedLayers } from '../run/window.js';
import type { WindowChoice } from '../run/windowChoice.js';
import type { PruneRun } from './pruneRun.js';
import type { PruneRecipe } from './readInputs.js';

/** All that a prune has decided, fitted and measured. */
export interface PruneResult {
  readonly recipe: PruneRecipe;
  readonly inputs: OpenInputs;
  readonly choice: WindowChoice;
  readonly repair: Repair;
  readonly pruned: PrunedModel;
  readonly healing: HealingRecord | undefined;
  /** Outputs of the pruned model in memory, which the written one is compared with. */
  readonly outputs: Float32Array;
  /** How much was to be measured, and what was. */
  readonly extent: ReportExtent;
  readonly measured: PruneEvaluations | undefined;
}

/** Writes the pruned model with its report to the run's output. @throws RmError as `publish`. */
export async function publishPruned(run: PruneRun, result: PruneResult): Promise<PruneReport> {
  const { from, to, options, device, clock, request, plan } = run;
  const { inputs, pruned, outputs } = result;
  const report = await publish({
    ...{ from, to, device, clock, options, model: pruned, arch: request.arch },
    output: request.output ?? (await checkPrunedOutput(from, to, options)),
    expected: outputs,
    outputsOf: written => inputs.outputsOfLoaded(written),
    offload: offloadOf(plan.placement),
    report: maxLogitDifference => reportOf(run, result, maxLogitDifference),
    recipe: report => recipeFile(from, to, options, report),
    beforeRename: target => run.markFinished(target),
  });
  await run.finish(result.extent);
  return report;
}

/** Numbers of tokens that the options ask for and the texts do not have. */
function capped(
  { options, request }: PruneRun,
  { calibration }: OpenInputs,
  measured: PruneEvaluations | undefined,
): string[] {
  const { tokens, mask, generate, sequenceLength, evaluationTokens } = options;
  const reads = needsCalibration(request) && (generate === undefined || givesTexts(options));
  const used = (calibration.tokens - (generate ?? 0)) / (mask === undefined ? 1 : 2);
  const given = measured?.evaluation?.texts ?? [];
  return [
    ...cappedSequences(sequenceLength, request.arch.contextLength),
    ...(reads ? cappedTokens('tokens', tokens, 'the calibration texts', Math.ceil(used)) : []),
    ...cappedTokens(
      'evaluationTokens',
      given.length === 0 ? undefined : evaluationTokens,
      'the texts of the report',
      given.reduce((sum, text) => sum + text.tokens, 0),
    ),
  ];
}

async function reportOf(
  run: PruneRun,
  { recipe, inputs, choice, repair, pruned, healing, extent, measured }: PruneResult,
  maxLogitDifference: number,
): Promise<PruneReport> {
  const { from, to, options, request, plan, device, clock } = run;
  const { method, arch } = request;
  const { memory, placement, notes } = plan;
  const { map, ...selection } = choice;
  const { tokens, sequences, files } = inputs.calibration;
  const judged = verdictFacts(run, inputs, choice, measured?.evaluation);
  const facts = {
    method: method.name,
    model: await reportModel(from),
    selection,
    recipe,
    calibration: { tokens, sequences: sequences.length, files },
    ...(healing && { healing }),
    plan: { memory, placement, phases: run.time.phases },
    extent,
    ...measured,
  };
  return {
    ...(await reportHead(device, clock)),
    kind: 'prune',
    sentence: pruneSentence(facts),
    repeat: repeatOf('prune', [from, to], options),
    warnings: [
      ...(await modelWarnings(from)),
      ...calibrationWarnings(files),
      ...leftOutWarnings(measured?.evaluation?.texts ?? []),
      ...(arch.vision ? [] : capped(run, inputs, measured)),
      ...notes,
      ...(repair.warnings ?? []),
      ...(healing ? healingWarnings(healing) : []),
      ...(arch.vision ? [] : damageWarnings(measured?.evaluation, judged)),
      ...exactnessWarnings(device),
    ],
    summary: describeWindows(choice.windows, arch.layers),
    source: method.source,
    ...facts,
    ...(measured?.evaluation && { verdict: verdictOf(measured.evaluation, judged) }),
    output: { path: to, layers: pruned.keep.length, keptLayers: pruned.keep },
    ...(map && { windowMap: map }),
    fit: repair.details,
    ridgePaths: repair.ridgePaths ?? [],
    verification: { tokens: inputs.outputTokens, maxLogitDifference },
  };
}

/** A method that heals too, where this one does not and it can repair such a model. */
function betterThan({ request: { method, arch, settings, gradient } }: PruneRun): string | undefined {
  const heals = settings.heal || gradient !== undefined;
  const better = methods.find(({ name }) => name === 'refit-heal')!;
  return heals || method.name === better.name || better.refusal?.(arch) ? undefined : better.name;
}

/** Unknowns of a row of down_proj for the tokens of a run: an expert has its own, and only its share of the tokens. */
const refittedUnknowns = ({ intermediate, experts }: Architecture): number =>
  experts ? Math.ceil((experts.features * experts.count) / experts.perToken) : intermediate;

/** What the verdict on a run depends on besides its evaluation. */
function verdictFacts(
  run: PruneRun,
  { calibration }: OpenInputs,
  { windows }: WindowChoice,
  evaluation: PruneEvaluation | undefined,
): VerdictFacts {
  const { arch, method, settings } = run.request;
  const { tokens, files } = calibration;
  const better = betterThan(run);
  const cost = method.fitCost?.({
    ...{ arch, settings, windows, tokens },
    ...{ layer: layerFlops(arch, 0), keepsInner: false },
  });
  return {
    removed: removedLayers(windows).length,
    method: method.name,
    ...(better !== undefined && { better }),
    ...(cost && { fit: { tokens, unknowns: cost.refits ? refittedUnknowns(arch) : arch.hidden } }),
    files: files.length,
    sameTexts: evaluation?.texts.every(({ origin }) => origin === 'held-out calibration') ?? false,
  };
}
