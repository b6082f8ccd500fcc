import type { Device } from '../engine/index.js';
import {
  type Evaluation,
  evaluate,
  logits,
  type Model,
  modelWarnings,
  openTextReader,
  type TextReader,
  totalTokens,
} from '../model/index.js';
import { PrunedModel } from './activations/prunedModel.js';
import { cappedSequences, cappedTokens } from './calibration/cappedTokens.js';
import { calibrationWarnings } from './calibration/readCalibration.js';
import type { Role } from './evaluation/pruneEvaluation.js';
import { type Sample, samplesOf } from './evaluation/samples.js';
import { removeCheckpoint } from './healing/checkpointFile.js';
import { type HealingRecord, healByGradient, healingWarnings } from './healing/gradientHealing.js';
import { type HealingSettings, type HealingSizes, healingSettings } from './healing/healingSettings.js';
import { type HealingTexts, readHealingTexts } from './healing/healingTexts.js';
import {
  checkHealedOutput,
  checkHealRequest,
  type HealRequest,
  healingRecipe,
  healingSizes,
} from './healing/healRequest.js';
import { loadModelAndTeacher, type ModelAndTeacher } from './healing/modelAndTeacher.js';
import type { HealOptions } from './options/healSettings.js';
import { finishedHealing } from './report/finishedHealing.js';
import { publish } from './report/publish.js';
import { repeatOf } from './report/repeat.js';
import { exactnessWarnings, reportHead, reportModel } from './report/reportHead.js';
import type { HealReport } from './report/schema/schema.js';
import { healSentence } from './report/sentence.js';
import { dateOf } from './run/dateOf.js';
import { openDevice } from './run/openDevice.js';
import { PhaseClock } from './run/phaseClock.js';
import { runHooks } from './run/runHooks.js';

/** Tokens on which the written model is compared with the one in memory. */
const COMPARED_TOKENS = 64;

/** What all steps of one healing share. */
interface HealRun {
  readonly from: string;
  readonly to: string;
  readonly options: HealOptions;
  readonly request: HealRequest;
  readonly device: Device;
  readonly clock: PhaseClock;
  readonly settings: HealingSettings;
  readonly sizes: HealingSizes;
  readonly reader: TextReader;
  readonly texts: HealingTexts;
}

/**
 * Heals the pruned model in folder `from` by gradient descent and writes it to the new folder (or GGUF file) `to`, in its
 * own dtypes and with nothing added to it. `to` appears only when the model is complete and checked; until then a
 * checkpoint keeps the run.
 *
 * @throws RmError; DIVERGED where training makes the model worse, else see engine/errors.ts.
 */
export async function heal(from: string, to: string, options: HealOptions): Promise<HealReport> {
  const started = performance.now();
  const request = await checkHealRequest(from, to, options);
  const { checkpoint } = request;
  const finished = request.output ? undefined : await finishedHealing(to, checkpoint);
  if (finished) {
    await removeCheckpoint(checkpoint);
    return finished;
  }
  const output = request.output ?? (await checkHealedOutput(from, to, checkpoint, options));

  // Open: the device, the texts, then the model and its teacher.
  await using lease = await openDevice(options);
  const { device } = lease;
  const clock = new PhaseClock(device, started);
  const settings = healingSettings(request.training, device, request.arch);
  const sizes = healingSizes(options, settings, device, request.arch);
  const reader = await openTextReader(from, options);
  const texts = await clock.during('calibrate', () => readTexts(reader, options, sizes));
  const run: HealRun = { from, to, options, request, device, clock, settings, sizes, reader, texts };
  using models = await clock.during('load', () => loadModelAndTeacher(from, options, request, device));

  // Heal, and measure the result in memory.
  const { changes, record } = await clock.during('heal', () => train(run, models));
  using healed = new PrunedModel(models.model, [], changes);
  const sample = texts.heldOut[0]!.slice(0, COMPARED_TOKENS);
  const outputsOf = async (model: Model) => (await logits(model, sample)).logits;
  const expected = await outputsOf(healed.model);
  const measured = await clock.during('evaluate', () => measure(run, models, healed.model));

  // Publish. After that there is nothing to resume.
  models[Symbol.dispose]();
  const report = await publish({
    ...{ from, to, device, clock, options, expected, outputsOf, model: healed, arch: request.arch },
    output,
    report: async maxLogitDifference => ({
      ...(await describe(run, record, healed.keep, measured)),
      verification: { tokens: sample.length, maxLogitDifference },
    }),
  });
  await removeCheckpoint(checkpoint);
  return report;
}

const readTexts = (
  reader: TextReader,
  { data: files, textField, skipInvalid, heldOut: heldOutFiles }: HealOptions,
  sizes: HealingSizes,
): Promise<HealingTexts> =>
  readHealingTexts(reader, { files, textField, skipInvalid, heldOutFiles, ...sizes });

/** Takes the steps, or goes on with those of a checkpoint. */
async function train(run: HealRun, { model, teacher }: ModelAndTeacher) {
  const { from, options, request, settings, sizes, texts, reader } = run;
  const { resume = false, finish = false } = options;
  const recipe = await healingRecipe(from, options, request, settings, sizes, texts, reader);
  return await healByGradient({
    ...{ model, teacher, settings, layers: request.layers },
    ...{ training: texts.training, heldOut: texts.heldOut },
    kept: { path: request.checkpoint, recipe, resume, finish },
    onRecord: options.onRecord,
    ...runHooks(options),
  });
}

interface Measured {
  readonly result: Evaluation;
  readonly samples: readonly Sample[];
}

/** Evaluates the healed model on the held-out text, beside the teacher where there is one. */
async function measure(
  { options, settings, reader, texts }: HealRun,
  { teacher }: ModelAndTeacher,
  healed: Model,
): Promise<Measured> {
  const hooks = runHooks(options);
  const against = teacher && { against: teacher };
  const roles: [Role, Model][] = [
    ...(teacher ? [['dense', teacher] as [Role, Model]] : []),
    ['result', healed],
  ];
  return {
    result: await evaluate(healed, texts.heldOut, {
      batchTokens: settings.microBatchTokens,
      ...against,
      ...hooks,
    }),
    samples: await samplesOf(roles, reader, hooks),
  };
}

/** The report but for the verification of the written model. */
async function describe(
  { from, to, options, request, device, clock, settings, sizes, texts, reader }: HealRun,
  record: HealingRecord,
  keep: readonly number[],
  { result, samples }: Measured,
): Promise<Omit<HealReport, 'verification'>> {
  const { patched, keptLayers } = request.cut ?? { patched: record.layers, keptLayers: keep };
  const facts = {
    model: await reportModel(from),
    ...(options.teacher !== undefined && { teacher: await reportModel(options.teacher) }),
    healing: record,
    result,
  };
  return {
    ...(await reportHead(device, clock)),
    kind: 'heal',
    sentence: healSentence(facts),
    repeat: repeatOf('heal', [from, to], options),
    warnings: [
      ...(await modelWarnings(from)),
      ...calibrationWarnings(texts.files),
      ...cappedSequences(options.sequenceLength, request.arch.contextLength),
      ...cappedTokens('tokens', options.tokens, 'the training texts', texts.tokens),
      ...cappedTokens(
        'heldOutTokens',
        options.heldOutTokens,
        'the held-out texts',
        totalTokens(texts.heldOut),
      ),
      ...healingWarnings(record),
      ...exactnessWarnings(device),
    ],
    ...facts,
    cut: { patched, keptLayers },
    recipe: { ...settings, ...sizes, ...dateOf(reader) },
    data: { tokens: texts.tokens, sequences: texts.training.length, files: texts.files },
    output: { path: to },
    samples,
  };
}
