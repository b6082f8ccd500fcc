import { ensure, RmError } from '../../engine/index.js';
import {
  type Architecture,
  checkModelOutput,
  checkShapes,
  checkWritable,
  locateModel,
  openModelSource,
  readArchitecture,
  weightDtypes,
} from '../../model/index.js';
import { checkMask } from '../calibration/mask.js';
import { linearRefusal } from '../fits/linearRefusal.js';
import { type AskedTraining, checkTraining } from '../healing/healingSettings.js';
import { parseHealing } from '../healing/healingWords.js';
import { requireTrainable } from '../healing/requireTrainable.js';
import { type Method, methodNamed, methodSettings, methods, type RepairSettings } from '../methods/index.js';
import { cosineSettings } from '../options/cosineSettings.js';
import { checkImageOptions } from '../options/imageOptions.js';
import { givesTexts, type PruneOptions } from '../options/pruneOptions.js';
import { checkCheckpointOptions, mayBeFinished } from '../resume/pruneCheckpoint.js';
import { checkRemoved, checkWindow, layersToRemove, removedLayers, type Window } from '../run/window.js';
import { type Selection, selectionNamed } from '../selections/index.js';
import { faithfulOptions } from './faithful.js';

/** @throws RmError INVALID_ARGUMENT naming the methods that can prune such a model. */
function requireRepairable(method: Method, arch: Architecture, heal: boolean): void {
  const own = method.refusal?.(arch);
  const refusal = own ?? (heal ? linearRefusal(arch) : undefined);
  const others = methods.filter(other => !other.refusal?.(arch) && !other.inMemoryOnly);
  // One that fits something mends more than one that only removes.
  const [best, ...rest] = [
    ...others.filter(({ needsCalibration }) => needsCalibration),
    ...others.filter(({ needsCalibration }) => !needsCalibration),
  ].map(({ name }) => name);
  ensure(
    refusal === undefined,
    `${method.name}${heal ? ' with healing' : ''}: ${refusal}`,
    own === undefined
      ? 'Leave --heal out: no layer of such a model can be healed in closed form.'
      : `Give --method ${best}${heal ? ' without --heal' : ''}, which can mend such layers; others that can remove them: ${rest.join(', ')}.`,
  );
}

/** A request to prune in which nothing contradicts the model's config.json and headers. */
export interface PruneRequest {
  readonly method: Method;
  readonly selection: Selection;
  readonly arch: Architecture;
  /** Layers to remove. */
  readonly count: number;
  readonly windowCount: number;
  readonly apart: boolean;
  /** Where they were asked for. */
  readonly windows: readonly Window[] | undefined;
  readonly settings: RepairSettings;
  /** Healing by gradient after the repair, where it is asked for. */
  readonly gradient?: AskedTraining;
}

/**
 * Everything about a request that can be checked without a device and without reading weights or texts.
 *
 * @param to the output folder; undefined where nothing is to be written.
 * @throws RmError INVALID_ARGUMENT, OUTPUT_EXISTS, and what Model.load throws for a damaged folder.
 */
export async function checkPruneRequest(
  from: string,
  to: string | undefined,
  given: PruneOptions,
): Promise<PruneRequest> {
  const options = given.faithful ? faithfulOptions(given) : given;
  const method = methodNamed(options.method ?? 'refit');
  const arch = await readArchitecture(from);
  const selection = requestedSelection(options, method, arch);
  const windows = requestedWindows(options, arch.layers);
  const count = windows ? removedLayers(windows).length : layersToRemove(options, arch.layers);
  const settings = checkSettings(options, method);
  checkUnread(options, method);
  const gradient = gradientOf(options);
  if (gradient) requireTrainable(arch);
  const { windows: windowCount = 1, apart = false } = options;
  ensure(
    Number.isInteger(windowCount) && windowCount >= 1 && windowCount <= count,
    `${count} layers cannot be removed in ${windowCount} windows`,
    `Give a number of windows from 1 to ${count}.`,
  );
  ensure(
    windows === undefined || (windowCount === 1 && given.select === undefined),
    'the layers to remove are given, there is nothing to select',
    'Leave out --select and --windows, or --window and --remove.',
  );
  ensure(
    (windowCount === 1 && !apart) || windows !== undefined || selection.dividesInWindows === true,
    `the selection ${selection.name} does not take a number of windows`,
    'Leave --windows and --apart out, or choose another selection (rm-engine methods).',
  );
  for (const name of ['tokens', 'generate', 'sequenceLength', 'batchTokens', 'maxShardBytes'] as const) {
    const value = options[name] ?? 1;
    ensure(value >= 1, `${name} is ${value}`, 'Give a number of 1 or more.');
  }
  ensure(
    options.evaluationTokens === undefined || options.evaluationTokens >= 2,
    `evaluationTokens is ${options.evaluationTokens}`,
    'Give a number of 2 or more.',
  );
  ensure(
    options.report !== false || (options.evaluation === undefined && options.evaluationTokens === undefined),
    'texts to evaluate on are given, but no report is to be made',
    'Leave --no-report out, or --eval and --eval-tokens.',
  );
  ensure(
    options.dtype === undefined || weightDtypes.includes(options.dtype),
    `dtype is ${options.dtype}`,
    `Give one of ${weightDtypes.join(', ')}.`,
  );
  if (options.mask !== undefined) checkMask(options.mask);
  ensure(
    options.weights === undefined || options.generate === undefined || givesTexts(options),
    'weights are given, but no calibration files: the model writes all of the text',
    'Give --calib, or leave --weights out.',
  );
  requireRepairable(method, arch, settings.heal);
  if (arch.vision) {
    const fits = method.needsCalibration || settings.heal || gradient !== undefined;
    checkImageOptions(options, fits || windows === undefined);
  }
  ensure(
    to === undefined || !method.inMemoryOnly,
    `${method.name}: ${method.inMemoryOnly}`,
    'rm-engine compare evaluates it in memory; to write a model, choose another method.',
  );
  if (to !== undefined) {
    checkCheckpointOptions(to, options);
    if (!mayBeFinished(to, options)) await checkModelOutput(to, await outputOptions(from, options));
  }
  const source = await openModelSource(from);
  const checkpoint = await source.openCheckpoint();
  try {
    checkShapes(arch, checkpoint);
    if (to !== undefined) {
      // Where the layers are still to be chosen, a window of as many: rules by place treat all such windows alike.
      const gone = new Set(removedLayers(windows ?? [{ layer: 0, count }]));
      const keep = Array.from({ length: arch.layers }, (_, layer) => layer).filter(layer => !gone.has(layer));
      await checkWritable({ source, checkpoint, arch, keep, replacements: new Map() }, to);
    }
  } finally {
    await checkpoint.close();
  }
  return {
    method,
    selection,
    arch,
    count,
    windowCount,
    apart,
    windows,
    settings,
    ...(gradient && { gradient }),
  };
}

/** Training towards the unpruned model, where `heal` asks for it. */
function gradientOf({ heal = 'none', training }: PruneOptions): AskedTraining | undefined {
  const { gradient } = parseHealing(heal);
  ensure(
    gradient !== undefined || training === undefined,
    'settings of healing by gradient are given, but no such healing',
    'Add --heal transform:300, say, or leave them out.',
  );
  if (!gradient) return undefined;
  const asked = { ...training, ...gradient, objective: 'kl' as const, checkpointEvery: 0 };
  checkTraining(asked);
  return asked;
}

/** The selection that is asked for, else the method's own; of image encoders one that no text is needed for. */
function requestedSelection({ select }: PruneOptions, method: Method, { vision }: Architecture): Selection {
  const selection = selectionNamed(select ?? method.selection);
  if (!vision || !selection.judgesText) return selection;
  ensure(
    select === undefined,
    `the selection ${selection.name} judges what a model says of texts, and this one reads images`,
    'Leave --select out, or take cosine, angular or block-influence.',
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
      'Give either --remove or --layers (or --ratio) with or without --window.',
    );
    return checkRemoved(remove, layers);
  }
  if (window === undefined) return undefined;
  const windows = [{ layer: window, count: layersToRemove(options, layers) }];
  checkWindow(windows[0]!, layers);
  return windows;
}

/**
 * Refuses settings that the method does not read, unless they ask for nothing that is not done anyway: files of other
 * programs' settings name defaults.
 */
function checkUnread(options: PruneOptions, { name, reads = [], unhealed }: Method): void {
  const { alpha = 0, ridge, attentionStep, sinkWeight = 1, cosine = {}, heal } = options;
  const asked = {
    alpha: alpha !== 0,
    ridge: ridge !== undefined,
    attentionStep: attentionStep !== undefined,
    sinkWeight: sinkWeight !== 1,
    cosine: JSON.stringify(cosineSettings(cosine)) !== JSON.stringify(cosineSettings()),
  };
  const unread = methodSettings.find(setting => asked[setting] && !reads.includes(setting));
  if (unread) {
    const readers = methods.filter(method => method.reads?.includes(unread));
    throw new RmError(
      'INVALID_ARGUMENT',
      `the method ${name} has no ${unread === 'cosine' ? Object.keys(cosine).join(', ') : unread}`,
      `Leave it out, or choose a method that has it: ${readers.map(method => method.name).join(', ')}.`,
    );
  }
  ensure(
    heal !== 'none' || unhealed === undefined,
    `the method ${name} always heals`,
    `Choose ${unhealed?.name}, or leave --heal out.`,
  );
}

function checkSettings(options: PruneOptions, method: Method): RepairSettings {
  const { alpha = 0, ridge } = options;
  ensure(Number.isFinite(alpha) && alpha >= 0, `alpha is ${alpha}`, 'Give a number of 0 or more.');
  ensure(
    ridge === undefined || (Number.isFinite(ridge) && ridge >= 1e-3),
    `ridge is ${ridge}`,
    'Give a share of the mean diagonal of 0.001 or more (0.1, say), or leave it out.',
  );
  const { attentionStep, sinkWeight } = options;
  ensure(
    attentionStep === undefined || (attentionStep >= 0 && attentionStep <= 1),
    `attentionStep is ${attentionStep}`,
    'Give a number from 0 to 1.',
  );
  ensure(
    sinkWeight === undefined || (Number.isFinite(sinkWeight) && sinkWeight >= 0),
    `sinkWeight is ${sinkWeight}`,
    'Give a number of 0 or more.',
  );
  return {
    alpha,
    heal: parseHealing(options.heal ?? 'none').closedForm || method.unhealed !== undefined,
    ...(options.faithful && { unprunedInputs: true }),
    ...(ridge !== undefined && { ridge }),
    ...(options.cosine && { cosine: cosineSettings(options.cosine) }),
    ...(attentionStep !== undefined && { attentionStep }),
    ...(sinkWeight !== undefined && { sinkWeight }),
  };
}

/** Nothing may take the place of the model itself, or of the statistics. */
export const outputOptions = async (from: string, { force = false, statistics }: PruneOptions) => ({
  protect: [(await locateModel(from)).path, ...(statistics === undefined ? [] : [statistics])],
  force,
});
