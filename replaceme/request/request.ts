import { checkArguments, ensure, objectWith, oneOf, optional, RmError } from '../../engine/index.js';
import {
  type Architecture,
  aPath,
  type CheckedOutput,
  checkModelOutput,
  checkReportsBeside,
  checkShapes,
  checkWritable,
  inputPaths,
  type OutputOptions,
  openHeaders,
  openModelSource,
  readArchitecture,
  writableTarget,
} from '../../model/index.js';
import { checkTraining, type TrainingRequest } from '../healing/healingSettings.js';
import { requireTrainable } from '../healing/requireTrainable.js';
import { type Method, methods, type RepairSettings, unreadSettings } from '../methods/index.js';
import { checkImageOptions } from '../options/imageOptions.js';
import { cosineSettings, givesTexts, type PruneOptions } from '../options/pruneOptions.js';
import { methodSettings, pruneSettings } from '../options/pruneSettings.js';
import { checkValues, type DeclaredSetting, listed, settingValue } from '../options/setting.js';
import { checkCheckpointOptions, mayBeFinished } from '../resume/pruneCheckpoint.js';
import { checkRemoved, checkWindow, layersToRemove, removedLayers, type Window } from '../run/window.js';
import { checkRoom, equalWindowSize } from '../selections/greedyWindows.js';
import { type Selection, selectionNamed } from '../selections/index.js';
import { faithfulOptions } from './faithful.js';
import { type DamageBudget, damageBudget, hasBudget, layersForSize } from './layerBudget.js';
import { needsCalibration } from './needs.js';
import { methodOf, namedOptions, type OwnPruneOptions, selectionOf } from './ownStrategies.js';

/** A request to prune in which nothing contradicts the model's config.json and headers. */
export interface PruneRequest {
  readonly method: Method;
  readonly selection: Selection;
  readonly arch: Architecture;
  /** Layers to remove; where a budget decides, the most that may go. */
  readonly count: number;
  /** How much damage the layers to remove may do, where that decides how many they are. */
  readonly budget?: DamageBudget;
  readonly windowCount: number;
  readonly apart: boolean;
  /** Where the options name them. */
  readonly windows: readonly Window[] | undefined;
  readonly settings: RepairSettings;
  /** Healing by gradient after the repair, if any. */
  readonly gradient?: TrainingRequest;
  /** Where the result goes; undefined where nothing is written, or an earlier run may have written it already. */
  readonly output?: CheckedOutput;
}

/**
 * Checks everything about a request that needs neither a device nor weights nor texts.
 *
 * @param to the output folder; undefined where nothing is written.
 * @param weights "described": config.json will do.
 * @throws RmError INVALID_ARGUMENT, OUTPUT_EXISTS, and what Model.load throws for a damaged folder.
 */
export async function checkPruneRequest(
  from: string,
  to: string | undefined,
  pruneOptions: OwnPruneOptions,
  weights: 'needed' | 'described' = 'needed',
): Promise<PruneRequest> {
  checkArguments(
    'prune',
    { from, to, options: pruneOptions, weights },
    {
      from: aPath,
      to: optional(aPath),
      options: objectWith('an object of settings'),
      weights: oneOf('needed', 'described'),
    },
  );
  const given = namedOptions(pruneOptions);
  checkValues(pruneSettings, given);
  const options = given.faithful ? faithfulOptions(given) : given;
  const method = methodOf(pruneOptions.method ?? options.method ?? 'refit');
  const arch = await readArchitecture(from);
  const selection = requestedSelection(pruneOptions.select ?? options.select, method, arch);
  const windows = requestedWindows(options, arch.layers);
  const budget = hasBudget(options) ? damageBudget(options) : undefined;
  const count = windows ? removedLayers(windows).length : await layerCount(from, options, arch);
  const settings = repairSettings(options, method);
  checkUnread(options, method);
  const gradient = trainingOf(options);
  if (gradient) requireTrainable(arch);
  ensure(
    settings.heal !== 'auto' || !budget,
    'what is healed would be chosen after the number of layers, which a budget finds by healing',
    'Give `heal.closedForm: true` or `heal.closedForm: o-proj`.',
  );
  ensure(
    settings.heal !== 'auto' || !arch.vision,
    'what is healed is chosen by what a model says of texts, and this one reads images',
    'Give `heal.closedForm: true` or `heal.closedForm: o-proj`.',
  );
  const { windows: windowCount = 1, apart = false } = options;
  const request: PruneRequest = {
    ...{ method, selection, arch, count, windowCount, apart, windows, settings },
    ...(gradient && { gradient }),
    ...(budget && { budget }),
  };
  checkWindows(request, given.select);
  checkTexts(options);
  requireRepairable(method, arch);
  if (arch.vision) checkImageOptions(options, needsCalibration(request));
  const output = to === undefined ? undefined : await checkOutput(from, to, options, method);
  await checkModelFiles(from, to, request, weights);
  return { ...request, ...(output && { output }) };
}

/** How many layers go: as named, or as a budget says. */
async function layerCount(from: string, options: PruneOptions, arch: Architecture): Promise<number> {
  if (!hasBudget(options)) return layersToRemove(options, arch.layers);
  ensure(
    arch.layers > 1,
    'the model has a single layer, which cannot be removed',
    'Choose a model with more layers.',
  );
  if (!damageBudget(options)) return await layersForSize(from, options, arch);
  ensure(
    !arch.vision,
    'a budget judges what a model says of texts, and this one reads images',
    'Give a number of `layers`, or `targetBytes`.',
  );
  return arch.layers - 1;
}

/** The windows against the selection that would find them. */
function checkWindows(
  { arch, selection, count, windowCount, apart, windows }: Omit<PruneRequest, 'gradient'>,
  select: string | undefined,
): void {
  ensure(
    windowCount <= count,
    `${count} layers cannot be removed in ${windowCount} windows`,
    `Give a number of windows from 1 to ${count}.`,
  );
  ensure(
    windows === undefined || (windowCount === 1 && select === undefined),
    'the layers to remove are given, there is nothing to select',
    'Leave out `select` and `windows`, or `window` and `remove`.',
  );
  ensure(
    (windowCount === 1 && !apart) || windows !== undefined || selection.dividesInWindows !== undefined,
    `the selection ${selection.name} does not take a number of windows`,
    'Leave `windows` and `apart` out, or choose another selection (rm-engine methods).',
  );
  if (windows || selection.dividesInWindows !== 'equal') return;
  checkRoom(arch.layers, equalWindowSize({ count, windowCount }), windowCount, apart);
}

/** Settings of the texts that contradict each other. */
function checkTexts(options: PruneOptions): void {
  const evaluates = options.report !== 'none' || damageBudget(options) !== undefined;
  ensure(
    evaluates || (options.evaluation === undefined && options.evaluationTokens === undefined),
    'there are texts to evaluate on, but the report is switched off',
    'Leave out `report: none`, or `evaluation` and `evaluationTokens`.',
  );
  ensure(
    options.weights === undefined || options.generate === undefined || givesTexts(options),
    'weights are given, but no calibration files: the model writes all of the text',
    'Give `calibration`, or leave `weights` out.',
  );
}

/** What is to be written, and the place where it goes. */
async function checkOutput(
  from: string,
  to: string,
  options: PruneOptions,
  method: Method,
): Promise<CheckedOutput | undefined> {
  ensure(
    !method.inMemoryOnly,
    `${method.name}: ${method.inMemoryOnly}`,
    'rm-engine compare evaluates it in memory; to write a model, choose another method.',
  );
  const inputs = await inputsOf(from, options);
  if (options.statistics !== undefined) writableTarget(options.statistics, { protect: inputs });
  await checkCheckpointOptions(to, options);
  return mayBeFinished(to, options) ? undefined : await checkPrunedOutput(from, to, options);
}

/** Checks the output of a prune. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
export async function checkPrunedOutput(
  from: string,
  to: string,
  options: PruneOptions,
): Promise<CheckedOutput> {
  const { force = false, resume = false, statistics, onNotice } = options;
  const protect = [...(await inputsOf(from, options)), ...(statistics === undefined ? [] : [statistics])];
  const output: OutputOptions = { force, protect, onNotice };
  // A run that was killed may have written its reports.
  await checkReportsBeside(to, { ...output, force: force || resume });
  return await checkModelOutput(from, to, output);
}

/** Checks the model's headers, and whether its output format can say what is left of it. @throws RmError. */
export async function checkModelFiles(
  from: string,
  to: string | undefined,
  { arch, windows, count, budget }: Pick<PruneRequest, 'arch' | 'windows' | 'count' | 'budget'>,
  weights: 'needed' | 'described' = 'needed',
): Promise<void> {
  const source = await openModelSource(from);
  const checkpoint = await (weights === 'needed' ? source.openCheckpoint() : openHeaders(from, arch));
  try {
    checkShapes(arch, checkpoint);
    if (to === undefined) return;
    // Where the layers are still to be chosen, a window of as many: rules by place treat all such windows alike.
    const removed = new Set(removedLayers(windows ?? [{ layer: 0, count: budget ? 1 : count }]));
    const keep = Array.from({ length: arch.layers }, (_, layer) => layer).filter(
      layer => !removed.has(layer),
    );
    await checkWritable({ source, checkpoint, arch, keep, replacements: new Map() }, to);
  } finally {
    await checkpoint.close();
  }
}

/** @throws RmError INVALID_ARGUMENT naming the methods that can prune such a model. */
function requireRepairable(method: Method, arch: Architecture): void {
  const refusal = method.refusal?.(arch);
  const others = methods.filter(other => !other.refusal?.(arch) && !other.inMemoryOnly);
  // A method that fits something repairs more than one that only removes.
  const [best, ...rest] = [
    ...others.filter(({ needsCalibration }) => needsCalibration),
    ...others.filter(({ needsCalibration }) => !needsCalibration),
  ].map(({ name }) => name);
  ensure(
    refusal === undefined,
    `${method.name}: ${refusal}`,
    `Give \`method: ${best}\`, which can repair such layers; others that can remove them: ${rest.join(', ')}.`,
  );
}

/** Training towards the unpruned model, where `heal` has it. */
function trainingOf({ heal, seed }: PruneOptions): TrainingRequest | undefined {
  const gradient = heal?.gradient;
  if (!gradient) return undefined;
  ensure(
    gradient.train !== undefined,
    'settings of healing by gradient are given, but no such healing',
    'Add `heal.gradient.train: transform`, say, or leave them out.',
  );
  const training = {
    ...(seed !== undefined && { seed }),
    ...gradient,
    objective: 'kl' as const,
    checkpointEvery: 0,
  };
  checkTraining(training);
  return training;
}

/** The selection that the options name, else the method's own; for image encoders one that needs no text. */
function requestedSelection(
  select: OwnPruneOptions['select'],
  method: Method,
  { vision }: Architecture,
): Selection {
  const selection = selectionOf(select ?? method.selection);
  if (!vision || !selection.judgesText) return selection;
  ensure(
    select === undefined,
    `the selection ${selection.name} judges what a model says of texts, and this one reads images`,
    'Leave `select` out, or choose cosine, angular or block-influence.',
  );
  return selectionNamed('cosine');
}

function requestedWindows(
  { remove, window, ...options }: PruneOptions,
  layers: number,
): Window[] | undefined {
  if (remove) {
    ensure(
      window === undefined && options.layers === undefined && options.ratio === undefined,
      'the removed layers are given twice',
      'Give either `remove` or `layers` (or `ratio`) with or without `window`.',
    );
    return checkRemoved(remove, layers);
  }
  if (window === undefined) return undefined;
  const windows = [{ layer: window, count: layersToRemove(options, layers) }];
  checkWindow(windows[0]!, layers);
  return windows;
}

/**
 * Refuses settings that the method does not read, except those with the default value: files of other programs' settings
 * name defaults.
 */
function checkUnread(options: PruneOptions, method: Method): void {
  const isSet = (setting: DeclaredSetting) =>
    ![undefined, setting.default].includes(settingValue(setting, options));
  const unread = unreadSettings(method).filter(isSet);
  if (unread.length > 0) {
    const readers = methods.filter(({ reads }) => reads?.includes(unread[0]!));
    throw new RmError(
      'INVALID_ARGUMENT',
      `the method ${method.name} has no ${unread.map(({ name }) => `\`${name}\``).join(', ')}`,
      `Leave it out, or choose a method that has it: ${readers.map(({ name }) => name).join(', ')}.`,
    );
  }
  const { heal } = options;
  ensure(
    method.unhealed === undefined || heal?.closedForm !== false || heal.gradient !== undefined,
    `the method ${method.name} always heals`,
    `Choose ${method.unhealed?.name}, or leave \`heal\` out.`,
  );
}

/** What the method reads, defaults filled in where every method has one. */
function repairSettings(options: PruneOptions, method: Method): RepairSettings {
  const values = listed(methodSettings)
    .map(setting => [setting.name, settingValue(setting, options)] as const)
    .filter(([, value]) => value !== undefined);
  const readsCosine = method.reads?.some(({ path }) => path[0] === 'cosine') ?? false;
  const cosine =
    readsCosine && options.seed !== undefined ? { seed: options.seed, ...options.cosine } : options.cosine;
  return {
    alpha: methodSettings.alpha.default,
    heal: options.heal?.closedForm || method.unhealed !== undefined,
    ...(options.faithful && { unprunedInputs: true }),
    ...Object.fromEntries(values),
    ...(cosine && { cosine: cosineSettings(cosine) }),
  };
}

/** What a run reads, but for the statistics, which it writes too. */
const inputsOf = (
  from: string,
  { calibration = [], calibrationTasks = [], evaluation = [] }: PruneOptions,
): Promise<string[]> => inputPaths([from], [...calibration, ...calibrationTasks, ...evaluation]);
