import { existsSync } from 'node:fs';
import { checkArguments, type Device, ensure, listOf, optional, record, text } from '../../engine/index.js';
import {
  type Architecture,
  aPath,
  type CheckedOutput,
  checkModelOutput,
  checkReportsBeside,
  checkShapes,
  companionPath,
  inputPaths,
  modelFingerprint,
  openCheckpoint,
  readArchitecture,
  type TextReader,
} from '../../model/index.js';
import { defaultEvaluationTokens } from '../calibration/sizes.js';
import { type HealOptions, healingTextSettings, healSettings } from '../options/healSettings.js';
import { checkValues } from '../options/setting.js';
import { objectiveSettings } from '../options/trainingSettings.js';
import type { Recipe } from '../run/recipe.js';
import { checkCheckpoint } from './checkpointFile.js';
import {
  checkTraining,
  type HealingSettings,
  type HealingSizes,
  type TrainingRequest,
} from './healingSettings.js';
import type { HealingTexts } from './healingTexts.js';
import { type Cut, layersToTrain, readCut } from './patchedLayers.js';
import { requireTrainable } from './requireTrainable.js';
import { checkTeacher } from './teacher.js';

/** A request to heal in which nothing contradicts the model's config.json and headers. */
export interface HealRequest {
  readonly arch: Architecture;
  readonly training: TrainingRequest;
  /** What report.json says of the pruning. */
  readonly cut: Cut | undefined;
  /** Patched layers to train, ascending; empty where all weights are trained. */
  readonly layers: readonly number[];
  /** Where the run is kept. */
  readonly checkpoint: string;
  /** Where the result goes; undefined where nothing is written, or an earlier run may have written it already. */
  readonly output?: CheckedOutput;
}

/**
 * Checks everything about a request that needs neither a device nor weights nor texts.
 *
 * @param to the output folder; undefined where nothing is written.
 * @throws RmError INVALID_ARGUMENT, OUTPUT_EXISTS, UNSUPPORTED_FAMILY, and what Model.load throws for a damaged folder.
 */
export async function checkHealRequest(
  from: string,
  to: string | undefined,
  options: HealOptions,
): Promise<HealRequest> {
  checkArguments(
    'heal',
    { from, to, options },
    { from: aPath, to: optional(aPath), options: record({ data: listOf(text) }) },
  );
  checkValues(healSettings, options);
  const { train = objectiveSettings.train.default, teacher, resume = false, finish = false } = options;
  const objective = options.objective ?? (teacher === undefined ? 'lm' : 'kl');
  const training: TrainingRequest = { ...options, train, objective };
  checkTraining(training);
  ensure(
    objective === 'lm' || teacher !== undefined,
    'the objective kl has no teacher',
    'Give the model that this one was pruned from as `teacher`, or choose `objective: lm`.',
  );
  ensure(options.data.length > 0, 'there is no text to train on', 'Give files as `data`.');
  ensure(!finish || resume, 'there is nothing to finish', 'Give `resume` with `finish`.');
  const arch = await readArchitecture(from);
  requireTrainable(arch);
  if (teacher !== undefined) await checkTeacher(from, arch, teacher);
  const cut = await readCut(from, arch.layers);
  ensure(
    train !== 'full' || options.layers === undefined,
    'layers are named, but all weights are trained',
    'Leave `layers` out, or train the transform or down-proj.',
  );
  const layers = train === 'full' ? [] : layersToTrain(options.layers, cut, arch.layers, from);
  const checkpoint = options.checkpoint ?? companionPath(to ?? from, '.checkpoint.safetensors');
  const output = to === undefined ? undefined : await checkOutputs(from, to, checkpoint, options);
  ensure(!finish || existsSync(checkpoint), `${checkpoint}: there is no checkpoint`, 'Leave `finish` out.');
  const opened = await openCheckpoint(from);
  try {
    checkShapes(arch, opened);
  } finally {
    await opened.close();
  }
  return { arch, training, cut, layers, checkpoint, ...(output && { output }) };
}

/** The places of the result and of the checkpoint. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
async function checkOutputs(
  from: string,
  to: string,
  checkpoint: string,
  options: HealOptions,
): Promise<CheckedOutput | undefined> {
  const { resume = false, force = false } = options;
  await checkCheckpoint(checkpoint, {
    protect: [...(await inputsOf(from, options)), to],
    replace: resume || force,
  });
  if (resume && existsSync(to) && existsSync(checkpoint)) return undefined;
  return await checkHealedOutput(from, to, checkpoint, options);
}

/** What a run reads. */
const inputsOf = (from: string, { teacher, data, heldOut = [] }: HealOptions): Promise<string[]> =>
  inputPaths([from, teacher], [...data, ...heldOut]);

/** Checks the output of a healing. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
export async function checkHealedOutput(
  from: string,
  to: string,
  checkpoint: string,
  healOptions: HealOptions,
): Promise<CheckedOutput> {
  const { resume = false, force = false } = healOptions;
  const options = { force, protect: [...(await inputsOf(from, healOptions)), checkpoint] };
  // A run that was killed may have written its reports.
  await checkReportsBeside(to, { ...options, force: force || resume });
  return await checkModelOutput(from, to, options);
}

/** The options' sizes, else those that suit the device and the steps. */
export function healingSizes(
  options: HealOptions,
  { steps, batchTokens }: HealingSettings,
  device: Device,
  { contextLength }: Architecture,
): HealingSizes {
  return {
    tokens: options.tokens ?? steps * batchTokens,
    sequenceLength: Math.min(
      options.sequenceLength ?? healingTextSettings.sequenceLength.default,
      contextLength,
      batchTokens,
    ),
    heldOutTokens: options.heldOutTokens ?? defaultEvaluationTokens(device),
  };
}

/** What a run depends on, for its checkpoint; the order is that in which a difference is told. */
export async function healingRecipe(
  from: string,
  { teacher, heldOut }: HealOptions,
  { layers }: HealRequest,
  settings: HealingSettings,
  sizes: HealingSizes,
  texts: HealingTexts,
  { chat }: TextReader,
): Promise<Recipe> {
  const { checkpointEvery: _, ...others } = settings;
  return {
    model: await modelFingerprint(from),
    teacher: teacher === undefined ? null : await modelFingerprint(teacher),
    'files to train on': texts.files.map(({ sha256 }) => sha256),
    'files to measure on': heldOut ? texts.heldOutSha256 : null,
    'trained layers': layers,
    ...others,
    ...sizes,
    'date of the chat template': chat.date,
  };
}
