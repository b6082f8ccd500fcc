import { checkArguments, type DeviceFacts, objectWith } from '../../engine/index.js';
import { keepLayers, openHeaders } from '../../model/index.js';
import { mostTokens } from '../calibration/mostTokens.js';
import { calibrationSizes, defaultEvaluationTokens } from '../calibration/sizes.js';
import { evaluationTokens } from '../evaluation/evaluationText.js';
import type { HealingWork } from '../healing/healingCost.js';
import { healingSettings } from '../healing/healingSettings.js';
import { healsAfter } from '../methods/method.js';
import { givesTexts, type PruneOptions } from '../options/pruneOptions.js';
import { budgetInWords } from '../request/layerBudget.js';
import { checkPruneRequest, type PruneRequest } from '../request/request.js';
import { openDevice } from '../run/openDevice.js';
import type { ReportExtent } from '../run/reportExtent.js';
import { describeWindows, keptLayers } from '../run/window.js';
import { plannedHealingSample } from '../selections/healingSample.js';
import { type Selection, selectionNamed } from '../selections/index.js';
import { type Shard, WHOLE } from '../statistics/shard.js';
import { groupTokens } from '../windowMap/groupTokens.js';
import { type AssumedDevice, factsOf } from './assumedDevice.js';
import { choiceWith, choosePlacement, type Hindrance } from './choosePlacement.js';
import type { DeviceSpeed } from './deviceSpeed.js';
import { earlierRuns } from './earlierRuns.js';
import { predictedRates } from './layerSpeed.js';
import { measuredRates } from './measuredRates.js';
import { type Placement, weightSizes } from './memoryParts.js';
import type { PlannedMemory } from './memoryPlan.js';
import type { MemorySizes } from './memorySteps.js';
import type { PlacedRun } from './repairFlops.js';
import {
  DISK_GIGABYTES,
  expectedCount,
  type PlannedPhase,
  type PlannedRates,
  plannedTime,
} from './timePlan.js';

/** The cost of a prune, estimated without reading weights or texts. */
export interface PrunePlan {
  /** "keep 11, remove 12..18 (7 of 30 layers)", or the number of layers where the selection still has to choose. */
  readonly summary: string;
  readonly method: string;
  readonly tokens: number;
  /** Tokens among them that the model generates itself; the phases do not count that time. */
  readonly generated: number;
  readonly batchTokens: number;
  readonly memory: PlannedMemory;
  /** Where weights and hidden states are placed. */
  readonly placement: Placement;
  /** How the run differs from one with all layers on the device, in sentences. */
  readonly notes: readonly string[];
  /** In order; reading texts is not counted. */
  readonly phases: readonly PlannedPhase[];
  /** How much the report will measure. */
  readonly report: ReportExtent;
  /** The rates behind the phases' seconds. */
  readonly rates: PlannedRates;
  /** Whether the seconds are corrected by what an earlier run of this kind took. */
  readonly corrected: boolean;
  readonly adapter: string;
}

/** How many tokens a run reads, and where its weights and hidden states are placed. */
export interface RunPlan extends PlacedRun {
  /** Tokens among them that the model generates itself. */
  readonly written: number;
  /** How the run differs from one with all layers on the device, in sentences. */
  readonly notes: readonly string[];
}

/**
 * Decides what stays on the device, before weights or texts are read.
 *
 * @param shard the part of the calibration batches that the run processes.
 * @throws RmError OUT_OF_MEMORY where no placement fits the memory limit.
 */
export async function planRun(
  from: string,
  options: PruneOptions,
  request: PruneRequest,
  device: DeviceFacts,
  shard: Shard = WHOLE,
): Promise<RunPlan> {
  const written = options.generate ?? 0;
  const sizesOf = (of: PruneRequest) => memorySizes(from, options, of, device, shard);
  const fallback = fallbackSelection(request, options);
  const requested = await sizesOf(request);
  const whole = fallback && choiceWith(requested, ['device']);
  if (whole) return { ...requested, ...whole, written, notes: [] };
  const to = fallback ? { ...request, selection: fallback } : request;
  const sizes = fallback ? await sizesOf(to) : requested;
  const choice = choosePlacement(sizes, hindrances(to, options));
  const streamed = choice.placement.weights !== 'device';
  const notes: string[] = [];
  if (fallback) {
    const why = streamed ? 'the layers are streamed' : 'memory is short';
    const { name } = request.selection;
    notes.push(`${why}: windows are selected by ${fallback.name}, since ${name} runs whole models`);
  }
  if (streamed && sizes.evaluationTokens > 0) {
    notes.push(
      'the layers are streamed: the report has no samples, which would take all layers to the device for every token',
    );
  }
  return { ...sizes, ...choice, written, notes };
}

/** Sizes of a run, from the model's config.json and headers. @throws RmError as Model.load for these files. */
export async function memorySizes(
  from: string,
  options: PruneOptions,
  request: PruneRequest,
  device: DeviceFacts,
  { of }: Shard = WHOLE,
): Promise<MemorySizes> {
  const { arch, windows, windowCount, selection } = request;
  const { sequenceLength, ...given } = calibrationSizes(options, device, arch);
  const copies = options.mask === undefined ? 1 : 2;
  const written = options.generate ?? 0;
  // Nobody asked for the default, which may be more than there is.
  const read =
    options.tokens === undefined && !arch.vision
      ? Math.min(given.tokens, await mostTokens(options))
      : given.tokens;
  const all = copies * (written && !givesTexts(options) ? written : read + written);
  // Whole batches are divided.
  const tokens =
    of === 1 ? all : Math.min(all, Math.ceil(all / of) + Math.max(given.batchTokens, sequenceLength));
  const planned = {
    ...{ device, tokens, layers: arch.layers, count: expectedCount(request), windowCount },
    heals: healsAfter(request),
  };
  const rankedTokens = windows ? 0 : (selection.tokens?.(planned) ?? tokens);
  const evaluated = options.report === 'none' ? 0 : evaluationTokens(options, device);
  const checkpoint = await openHeaders(from, arch, options.dtype);
  try {
    return {
      request,
      ...weightSizes(arch, checkpoint, sequenceLength),
      ...{ tokens, sequenceLength, rankedTokens },
      batchTokens: Math.min(tokens, given.batchTokens),
      selecting: windows ? {} : (selection.memory?.(planned) ?? { kept: rankedTokens }),
      ...{ device, mapGroup: groupTokens(device, arch) },
      hostStates: options.hostStates ?? 'f32',
      evaluationTokens: evaluated,
      ...(options.report && { report: options.report }),
      fixedTokens: options.evaluation !== undefined || options.evaluationTokens !== undefined,
      ...(request.settings.heal === 'auto' && { comparing: plannedHealingSample(device, tokens) }),
      ...(request.gradient && { healing: plannedHealing(request, device, evaluated) }),
    };
  } finally {
    await checkpoint.close();
  }
}

/** Healing by gradient after the cut, or from the first layer on while the cut is unknown. */
function plannedHealing(
  { arch, gradient, windows, windowCount, count }: PruneRequest,
  device: DeviceFacts,
  evaluated: number,
): HealingWork {
  const settings = healingSettings(gradient!, device, arch);
  const lowest = windows?.[0]?.layer ?? 0;
  const cuts = windows?.length ?? windowCount;
  const keep = windows ? keptLayers(windows, arch.layers) : [...Array(arch.layers - count).keys()];
  return {
    ...{ settings, teacherLayers: arch.layers, sharedLayers: lowest },
    arch: keepLayers(arch, keep),
    layers: settings.train === 'full' ? [] : Array.from({ length: cuts }, (_, i) => lowest + i),
    heldOutTokens: Math.min(evaluated, defaultEvaluationTokens(device)),
  };
}

/** The selection to use where memory is short and the method's default one cannot offload layers. */
export const fallbackSelection = (
  { selection, windows }: PruneRequest,
  { select }: PruneOptions,
): Selection | undefined =>
  windows || select !== undefined || selection.layerByLayer ? undefined : selectionNamed('cosine');

/** What of a request needs the whole model on the device. */
export function hindrances(
  { method, selection, windows, gradient, budget }: PruneRequest,
  { generate }: PruneOptions,
): Hindrance[] {
  const reasons: Hindrance[] = [];
  if (!windows && !selection.layerByLayer) {
    reasons.push({ what: `the selection ${selection.name} runs whole models`, fix: 'Use `select: cosine`' });
  }
  if (method.wholeModel) {
    reasons.push({
      what: `the method ${method.name} reads several layers at a time`,
      fix: 'Use another `method`',
    });
  }
  if (budget) {
    reasons.push({ what: 'several pruned models are tried', fix: 'Give a number of `layers`' });
  }
  if (gradient) {
    reasons.push({ what: 'healing by gradient needs all layers at a time', fix: 'Use `heal.closedForm`' });
  }
  if (generate !== undefined) {
    reasons.push({ what: 'the model cannot write text then', fix: 'Leave `generate` out' });
  }
  return reasons;
}

/** Settings of `planPrune`: those of the run, and a measured rate of the device. */
export interface PlanOptions extends PruneOptions {
  /** GB per second from host to device, if measured. */
  readonly uploadGigabytes?: number | undefined;
  /** Plans for this device, which need not be here, and opens none; a model's config.json will do. */
  readonly assume?: AssumedDevice | undefined;
  /** Computes the device's rates from what it does at the most, instead of measuring them. */
  readonly speed?: DeviceSpeed | undefined;
}

/**
 * Checks the request as `prune` does and estimates memory and time.
 *
 * @throws RmError as `prune` does for a wrong request or a damaged model folder.
 */
export async function planPrune(from: string, options: PlanOptions = {}): Promise<PrunePlan> {
  checkArguments('planPrune', { options }, { options: objectWith('an object of settings') });
  const { assume } = options;
  if (assume) {
    const request = await checkPruneRequest(from, undefined, options, 'described');
    const facts = factsOf(assume, options.memoryLimit);
    const run = await planRun(from, options, request, facts);
    return planOf(run, ratesOf(assume, run), facts, options);
  }
  const request = await checkPruneRequest(from, undefined, options);
  await using lease = await openDevice(options);
  const { device } = lease;
  const run = await planRun(from, options, request, device);
  const rates = options.speed
    ? predictedRates(options.speed, request.arch, run)
    : await measuredRates(from, run, device, options);
  return planOf(run, rates, device, options);
}

/** Of a described device: a single token reads all weights, which takes a good card about so much longer. */
const SINGLE_SHARE = 1 / 16;

function ratesOf(assume: AssumedDevice, run: RunPlan): PlannedRates {
  if ('info' in assume) return predictedRates(assume, run.request.arch, run);
  const { matmulGflops, uploadGigabytes } = assume;
  return {
    ...{ layerGflops: matmulGflops, layerMeasured: false, uploadGigabytes, uploadMeasured: false },
    singleGflops: SINGLE_SHARE * matmulGflops,
    diskGigabytes: DISK_GIGABYTES,
  };
}

function planOf(run: RunPlan, rates: PlannedRates, { info }: DeviceFacts, options: PlanOptions): PrunePlan {
  const { batchTokens, memory, placement, notes, request } = run;
  const { arch, count, windows } = request;
  const paces = earlierRuns(options, request)?.paces;
  const { phases, report } = plannedTime(run, rates, paces);
  return {
    summary: windows
      ? describeWindows(windows, arch.layers)
      : request.budget
        ? `remove as many of ${arch.layers} layers as ${budgetInWords(request.budget)} allows; tries several numbers on held-out text`
        : `remove ${count} of ${arch.layers} layers, where it is cheapest`,
    method: request.method.name,
    tokens: run.tokens,
    generated: run.written,
    batchTokens,
    memory,
    placement,
    notes,
    phases,
    report,
    rates,
    corrected: paces !== undefined,
    adapter: info.description,
  };
}
