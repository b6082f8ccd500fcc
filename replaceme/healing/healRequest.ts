import { existsSync } from 'node:fs';
import { type Device, ensure, RmError } from '../../engine/index.js';
import {
  type Architecture,
  checkModelOutput,
  checkShapes,
  locateModel,
  modelFingerprint,
  openCheckpoint,
  readArchitecture,
} from '../../model/index.js';
import type { HealOptions } from '../options/healOptions.js';
import type { Recipe } from '../run/recipe.js';
import {
  type AskedTraining,
  checkTraining,
  type HealingSettings,
  type HealingSizes,
} from './healingSettings.js';
import type { HealingTexts } from './healingTexts.js';
import { type Cut, layersToTrain, readCut } from './patchedLayers.js';
import { requireTrainable } from './requireTrainable.js';
import { checkTeacher } from './teacher.js';

/** A request to heal in which nothing contradicts the model's config.json and headers. */
export interface HealRequest {
  readonly arch: Architecture;
  readonly asked: AskedTraining;
  /** What report.json says of the pruning. */
  readonly cut: Cut | undefined;
  /** Patched layers to train, ascending; empty where all weights are trained. */
  readonly layers: readonly number[];
  /** Where the run is kept. */
  readonly checkpoint: string;
}

/** Nothing may take the place of the models. */
export const healOutput = async (from: string, { teacher, force = false }: HealOptions) => {
  const models = [from, ...(teacher === undefined ? [] : [teacher])];
  return { protect: await Promise.all(models.map(async model => (await locateModel(model)).path)), force };
};

/**
 * Everything about a request that can be checked without a device and without reading weights or texts.
 *
 * @param to the output folder; undefined where nothing is to be written.
 * @throws RmError INVALID_ARGUMENT, OUTPUT_EXISTS, UNSUPPORTED_FAMILY, and what Model.load throws for a damaged folder.
 */
export async function checkHealRequest(
  from: string,
  to: string | undefined,
  options: HealOptions,
): Promise<HealRequest> {
  const { train = 'transform', teacher, resume = false, finish = false } = options;
  const objective = options.objective ?? (teacher === undefined ? 'lm' : 'kl');
  const asked: AskedTraining = { ...options, train, objective };
  checkTraining(asked);
  ensure(
    objective === 'lm' || teacher !== undefined,
    'the objective kl has no teacher',
    'Give the model that this one was pruned from with --teacher, or choose --objective lm.',
  );
  ensure(options.data.length > 0, 'there is no text to train on', 'Give files with --data.');
  ensure(!finish || resume, 'there is nothing to finish', 'Give --resume with --finish.');
  for (const name of ['tokens', 'sequenceLength', 'heldOutTokens'] as const) {
    const value = options[name] ?? 2;
    ensure(Number.isSafeInteger(value) && value >= 2, `${name} is ${value}`, 'Give a number of 2 or more.');
  }
  const arch = await readArchitecture(from);
  requireTrainable(arch);
  if (teacher !== undefined) await checkTeacher(from, arch, teacher);
  const cut = await readCut(from, arch.layers);
  ensure(
    train !== 'full' || options.layers === undefined,
    'layers are named, but all weights are trained',
    'Leave --layer out, or train the transform or down-proj.',
  );
  const layers = train === 'full' ? [] : layersToTrain(options.layers, cut, arch.layers, from);
  if (to !== undefined) await checkModelOutput(to, await healOutput(from, options));
  const checkpoint = options.checkpoint ?? `${to ?? from}.checkpoint.safetensors`;
  if (to !== undefined && !resume && !options.force && existsSync(checkpoint)) {
    throw new RmError(
      'OUTPUT_EXISTS',
      `${checkpoint}: an earlier run has left a checkpoint`,
      'Add --resume to go on with that run, or --force to begin anew.',
    );
  }
  ensure(!finish || existsSync(checkpoint), `${checkpoint}: there is no checkpoint`, 'Leave --finish out.');
  const opened = await openCheckpoint(from);
  try {
    checkShapes(arch, opened);
  } finally {
    await opened.close();
  }
  return { arch, asked, cut, layers, checkpoint };
}

/** Tokens to measure on, unless told. */
export const defaultHeldOut = ({ info }: Device): number => (info.kind === 'software' ? 2048 : 16_384);

/** As asked for, else by the device and the steps. */
export function healingSizes(
  options: HealOptions,
  { steps, batchTokens }: HealingSettings,
  device: Device,
  { contextLength }: Architecture,
): HealingSizes {
  return {
    tokens: options.tokens ?? steps * batchTokens,
    sequenceLength: Math.min(options.sequenceLength ?? 1024, contextLength, batchTokens),
    heldOutTokens: options.heldOutTokens ?? defaultHeldOut(device),
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
  };
}
