import { checkArguments, ensure, objectWith, RmError } from '../engine/index.js';
import {
  aPath,
  type CheckedOutput,
  checkOutputFile,
  inputPaths,
  openTextReader,
  requireText,
} from '../model/index.js';
import { batchedTokens, type CalibrationBatch } from './calibration/calibrationBatch.js';
import { addGenerated, batchesOf, readRequestedTexts } from './calibration/requestedTexts.js';
import { calibrationSizes } from './calibration/sizes.js';
import type { RepairContext } from './fits/repair.js';
import { methods } from './methods/index.js';
import type { PruneOptions } from './options/pruneOptions.js';
import { methodSettings } from './options/pruneSettings.js';
import { loadPlanned } from './planning/loadPlanned.js';
import { planRun } from './planning/plan.js';
import { checkPruneRequest, type PruneRequest } from './request/request.js';
import { openDevice } from './run/openDevice.js';
import { packageVersion } from './run/packageVersion.js';
import { runHooks } from './run/runHooks.js';
import type { Window } from './run/window.js';
import { selections } from './selections/index.js';
import { type Shard, shardName, shardOf } from './statistics/shard.js';
import { StatisticsFile, statisticsKind } from './statistics/statisticsFile.js';
import { batchesRecipe, statisticsRecipe } from './statistics/statisticsRecipe.js';

/** Settings of `accumulateStatistics`: those of the run that is to use the sums, and the part to sum over. */
export interface AccumulateOptions extends PruneOptions {
  readonly shard: Shard;
  /** The merged sums of earlier rounds; not written to. */
  statistics?: string;
}

/** What was summed. */
export interface AccumulatedStatistics {
  readonly path: string;
  readonly shard: Shard;
  /** Calibration tokens of this shard and of all. */
  readonly tokens: number;
  readonly allTokens: number;
  /** What the sums are for; undefined where the shards together are to choose. */
  readonly windows?: readonly Window[];
  /** Sums and measures, by name. */
  readonly sums: readonly string[];
  /** False where another round is to follow, with the merged file as its statistics. */
  readonly complete: boolean;
}

/**
 * Sums over one shard of the calibration batches what a run of `prune` with these options needs, into the file `out`:
 * of a selection its distances; when windows are known, what the method needs for them. What depends on sums over all
 * shards waits for another round, with the merged file as `statistics`.
 *
 * @throws RmError INVALID_ARGUMENT for a method or a selection that needs all tokens on one machine; else as prune.
 */
export async function accumulateStatistics(
  from: string,
  out: string,
  options: AccumulateOptions,
): Promise<AccumulatedStatistics> {
  checkArguments(
    'accumulateStatistics',
    { from, out, options },
    { from: aPath, out: aPath, options: objectWith('an object with `shard`', 'shard') },
  );
  const { shard } = options;
  const request = await checkAccumulateRequest(from, options);
  const output = await checkAccumulated(from, out, options);
  return await output.write(async path => {
    await using lease = await openDevice(options);
    const { device } = lease;
    requireText(request.arch);
    const { placement } = await planRun(
      from,
      { ...options, report: 'none' },
      summing(request),
      device,
      shard,
    );
    const sizes = calibrationSizes(options, device, request.arch);
    const reader = await openTextReader(from, options);
    const texts = await readRequestedTexts(reader, options, sizes);
    const before =
      options.statistics === undefined ? undefined : await StatisticsFile.read(options.statistics);
    before?.agree(await statisticsRecipe(from, texts, options, sizes, reader));
    await before?.fits(request.arch);
    const into = await StatisticsFile.open(path);
    into.agree({
      ...(await statisticsRecipe(from, texts, options, sizes, reader, shard)),
      'version of rm-engine': await packageVersion(),
    });
    await using model = await loadPlanned(device, from, options, placement);
    if (before) into.adopt(before);
    const calibration = await addGenerated(texts, model, reader, options, sizes, into, runHooks(options));
    const all = await batchesOf(calibration, options, reader.tokenizer, sizes);
    for (const file of [before, into]) file?.agree(batchesRecipe(all));
    const batches = shardOf(all, shard);
    await into.save();
    const context = {
      model,
      settings: request.settings,
      placement: placement.states,
      ...(before && { statistics: before }),
      ...runHooks(options),
    };
    const windows = request.windows ?? (await chooseOrAccumulate(request, context, batches, all, into));
    const complete =
      windows !== undefined && (await request.method.accumulate!({ ...context, batches, into }, windows));
    device.check();
    options.signal?.throwIfAborted();
    return {
      path: out,
      shard,
      tokens: batchedTokens(batches),
      allTokens: batchedTokens(all),
      ...(windows && { windows }),
      sums: [...into.names, ...into.measures.map(({ measure }) => measure)],
      complete,
    };
  });
}

/** Checks before any work that sums may be written to `out`. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
export async function checkAccumulated(
  from: string,
  out: string,
  { force = false, calibration = [], calibrationTasks = [], statistics }: AccumulateOptions,
): Promise<CheckedOutput> {
  const protect = await inputPaths([from], [...calibration, ...calibrationTasks, statistics]);
  return await checkOutputFile(out, statisticsKind, { force, protect });
}

/**
 * The windows, where earlier rounds hold the distances that they are chosen by; else adds up those of this shard and returns
 * undefined.
 */
async function chooseOrAccumulate(
  request: PruneRequest,
  context: Omit<RepairContext, 'batches'>,
  ofShard: readonly CalibrationBatch[],
  all: readonly CalibrationBatch[],
  into: StatisticsFile,
): Promise<readonly Window[] | undefined> {
  const { selection } = request;
  const choosing = { ...context, ...request, batches: all };
  const distances = selection.distanceSums!(choosing);
  if (context.statistics?.distances(distances.by, distances.count)) {
    return (await selection.select(choosing)).windows;
  }
  const own = distances.batches.filter(batch => ofShard.includes(batch));
  await into.putDistances(distances.by, distances.count, await distances.sum(own));
  return undefined;
}

/** What sums need: they are of the unpruned model, nothing is healed. */
const summing = (request: PruneRequest): PruneRequest => ({
  ...request,
  settings: { ...request.settings, heal: false },
});

/**
 * How many rounds of shards a request takes at the most: the selection's distances, o_proj's sums of a refit that moves
 * it, and all others.
 */
export const accumulateRounds = ({ windows, method, settings }: PruneRequest): number =>
  (windows ? 0 : 1) +
  (method.reads?.includes(methodSettings.attentionStep) && settings.attentionStep !== 0 ? 1 : 0) +
  1;

/** What can be refused without a device. */
export async function checkAccumulateRequest(
  from: string,
  options: AccumulateOptions,
): Promise<PruneRequest> {
  const { index, of } = options.shard;
  ensure(
    Number.isInteger(index) && Number.isInteger(of) && index >= 1 && index <= of,
    `there is no shard ${shardName(options.shard)}`,
    'Give k/K with k from 1 to K.',
  );
  const request = await checkPruneRequest(from, undefined, options);
  const { method, selection, windows } = request;
  const names = (of_: readonly { name: string }[]) => of_.map(({ name }) => name).join(', ');
  if (!method.accumulate) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `${method.name}: ${method.notSummed ?? 'what it needs of the tokens is no sum'}, so they must all be on one machine`,
      `Prune on one machine, or choose one of: ${names(methods.filter(({ accumulate: gather }) => gather))}.`,
    );
  }
  if (!windows && !selection.distanceSums) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `the selection ${selection.name} runs changed models, which no sum over tokens can stand for: it cannot be sharded`,
      `Choose as \`select\` one of ${names(selections.filter(({ distanceSums: means }) => means))}, or name the layers by \`window\` or \`remove\`.`,
    );
  }
  return request;
}
