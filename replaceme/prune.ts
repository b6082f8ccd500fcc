import { Device, noJournal, type Progress } from '../engine/index.js';
import { tuningOf } from '../kernels/index.js';
import {
  checkModelOutput,
  inDtype,
  Model,
  modelFingerprint,
  openModelSource,
  SpillFile,
  verifyWritten,
  withModelOutput,
  writeModel,
} from '../model/index.js';
import { HiddenStates } from './activations/hiddenStates.js';
import { PrunedModel } from './activations/prunedModel.js';
import { calibrationSizes } from './calibration/sizes.js';
import { healingWarnings } from './healing/gradientHealing.js';
import { healingSettings } from './healing/healingSettings.js';
import { healPruned } from './healing/healPruned.js';
import { readImageInputs } from './inputs/images.js';
import { readTextInputs } from './inputs/texts.js';
import { dtypeOf, type PruneOptions } from './options/pruneOptions.js';
import { HEADROOM } from './planning/memoryParts.js';
import { planPrune, planRun, streamOf } from './planning/plan.js';
import { finishedReport } from './report/finishedReport.js';
import { exactnessWarnings, reportHead } from './report/head.js';
import { packageVersion } from './report/modelCard.js';
import { repeatOf } from './report/repeat.js';
import type { PruneReport } from './report/schema/schema.js';
import { pruneSentence } from './report/sentence.js';
import { withoutPaths, writeDocumentation } from './report/write.js';
import { checkPruneRequest, outputOptions, type PruneRequest } from './request/request.js';
import { checkpointPath, markFinished, mayBeFinished, openJournal } from './resume/pruneCheckpoint.js';
import type { RunJournal } from './resume/runJournal.js';
import { PhaseClock, type PhaseName } from './run/phaseClock.js';
import { runHooks } from './run/runHooks.js';
import { describeWindows } from './run/window.js';
import type { WindowChoice } from './selections/index.js';
import type { StatisticsFile } from './statistics/file.js';
import { batchesRecipe } from './statistics/statisticsRecipe.js';

/**
 * Prunes the model in folder `from` into the new folder `to`: measure, choose the window, fit, fold, write, reload,
 * compare, rename. `to` appears only when all of it has succeeded.
 *
 * @throws RmError; see engine/errors.ts.
 */
export async function prune(from: string, to: string, given: PruneOptions = {}): Promise<PruneReport> {
  const started = performance.now();
  const checked = await checkPruneRequest(from, to, given);
  const { method, arch, settings } = checked;
  if (mayBeFinished(to, given)) {
    const finished = await finishedReport(to);
    if (finished) return finished;
    await checkModelOutput(to, await outputOptions(from, given));
  }

  await using spillFile = new SpillFile(to);
  const device = given.device ?? (await Device.open(given));
  const clock = new PhaseClock(device, started);
  const asked = { ...given, onProgress: inSteps(given.onProgress, clock, stepsOf(checked, given)) };
  let journal: RunJournal | undefined;
  const tellKept = () =>
    given.onNotice?.(`what is done is kept in ${checkpointPath(to)}: --resume goes on from there`);
  // At once: after an interrupt there may be no time to end in order.
  const tellIfKept = () => journal?.isKept && tellKept();
  try {
    journal = await openJournal(device, to, given);
    given.signal?.addEventListener('abort', tellIfKept);
    const options = { ...asked, ...(journal && { journal }) };
    const kept = journal ?? noJournal;
    using _clock = await kept.track('phases', clock);
    const { request, placement, memory, notes } = await planRun(from, options, checked, device);
    const streamed = placement.weights !== 'device';
    // Buffers that wait for their next use do not add to it; where memory is short not even by what plans leave out.
    using _budget = device.memory.budget(streamed ? memory.total : HEADROOM * memory.total);
    const { mask, generate, faithful } = options;
    const wanted = {
      ...(mask !== undefined && { mask }),
      ...(generate !== undefined && { generate }),
      ...dtypeOf(options),
      ...(faithful && { faithful }),
    };
    const recipe = { ...settings, ...wanted, ...calibrationSizes(options, device, arch) };
    const fits = method.needsCalibration || settings.heal;
    const needed = fits || request.windows === undefined || request.gradient !== undefined;
    const read = arch.vision ? readImageInputs : readTextInputs;
    const inputs = await clock.during('calibrate', () => read(from, arch, device, options, recipe, needed));
    const { statistics } = inputs;
    journal?.agree({
      'version of rm-engine': await packageVersion(),
      ...inputs.recipe,
      method: method.name,
      selection: request.selection.name,
      'layers to remove': request.windows ?? request.count,
      windows: [request.windowCount, request.apart],
      settings,
      'healing by gradient': request.gradient ?? null,
      'number type of the output': options.dtype,
      'place of weights and hidden states': placement,
      adapter: [device.info, device.limits],
      'choice of kernels (rm-engine tune)': tuningOf(device),
    });
    const stream = streamOf(placement);
    await using loaded = await clock.during('load', () =>
      Model.load(device, from, { ...runHooks(options), stream, ...dtypeOf(options), images: true }),
    );
    using opened = await clock.during('calibrate', () => inputs.open(loaded));
    const { model, calibration, batches } = opened;
    journal?.agree(batchesRecipe(batches));
    using states = new HiddenStates(device, arch, memory.hiddenStates);
    using heldStates = await kept.track('states', states);
    const context = {
      model,
      batches,
      settings,
      placement: placement.states,
      spillFile,
      // A streamed model leaves them no room.
      ...(!streamed && { states }),
      spareBytes: memory.selectionSpare,
      batchTokens: recipe.batchTokens,
      ...(statistics && { statistics }),
      ...runHooks(options),
    };
    const select = () => request.selection.select({ ...context, ...request });
    const { map, ...choice }: WindowChoice = request.windows
      ? { windows: request.windows, by: 'request' }
      : await clock.during('select', () =>
          kept.step('select', () => chosen(request, device, select, statistics)),
        );
    const repair = await clock.during('fit', () =>
      kept.step('fit', async () => {
        const found = await method.repair({ ...context, phases: clock }, choice.windows);
        await device.recorder.finish();
        return found;
      }),
    );
    using pruned = new PrunedModel(model, choice.windows, repair.changes);
    const { keep } = pruned;
    heldStates[Symbol.dispose]();
    states.dispose();
    device.memory.trim();
    const { gradient } = request;
    const healing =
      gradient &&
      (await clock.during('heal', () =>
        healPruned({
          ...{ pruned, original: model, windows: choice.windows, calibration },
          heldOut: opened.heldOut,
          settings: healingSettings(gradient, device, arch),
          ...runHooks(options),
        }),
      ));
    await pruned.verifyFinite();
    const expected = await opened.outputs(pruned.model);
    // What is not finite is refused below.
    const measured =
      opened.evaluate && expected.every(Number.isFinite)
        ? await clock.during('evaluate', () =>
            kept.step('evaluate', async () => ({
              phases: (await planPrune(from, { ...options, device })).phases,
              ...(await opened.evaluate!({
                ...{ model, pruned, windows: choice.windows, spareBytes: memory.evaluationSpare },
                healed: settings.heal || gradient?.train === 'full',
              })),
            })),
          )
        : undefined;
    // From here on only the fitted weights are needed; the written model is loaded into the freed memory.
    loaded.dispose();

    const written = await withModelOutput(to, await outputOptions(from, options), async target => {
      await clock.during('write', async () => {
        const source = await openModelSource(from);
        const checkpoint = inDtype(await source.openCheckpoint(), options.dtype);
        try {
          using _section = device.section('write');
          const { replacements } = pruned;
          await writeModel({ source, checkpoint, arch, keep, replacements, device }, target, {
            ...(options.maxShardBytes !== undefined && { maxShardBytes: options.maxShardBytes }),
            ...dtypeOf(options),
            ...runHooks(options),
          });
        } finally {
          await checkpoint.close();
        }
      });
      const maxLogitDifference = await clock.during('verify', () =>
        verifyWritten(device, target, written => opened.outputsOfLoaded(written), expected, stream),
      );
      const found = {
        method: method.name,
        model: { path: from, fingerprint: await modelFingerprint(from), layers: arch.layers },
        selection: choice,
        recipe,
        calibration: {
          tokens: calibration.tokens,
          sequences: calibration.sequences.length,
          files: calibration.files,
        },
        ...(healing && { healing }),
        plan: { memory, placement, ...(measured && { phases: measured.phases }) },
        ...(measured?.evaluation && { evaluation: measured.evaluation }),
        ...(measured?.imageEvaluation && { imageEvaluation: measured.imageEvaluation }),
      };
      const report: PruneReport = {
        ...(await reportHead(device, clock)),
        kind: 'prune',
        sentence: pruneSentence(found),
        repeat: repeatOf('prune', [from, to], options),
        warnings: [
          ...notes,
          ...(repair.warnings ?? []),
          ...(healing ? healingWarnings(healing) : []),
          ...exactnessWarnings(device),
        ],
        summary: describeWindows(choice.windows, arch.layers),
        source: method.source,
        ...found,
        output: { path: to, layers: keep.length, keptLayers: keep },
        ...(map && { windowMap: map }),
        fit: repair.details,
        ridgePaths: repair.ridgePaths ?? [],
        verification: { tokens: opened.outputTokens, maxLogitDifference },
      };
      const published = withoutPaths(report, repeatOf('prune', [from, to], options, { published: true }));
      await writeDocumentation(to, target, published);
      device.check();
      options.signal?.throwIfAborted();
      if (journal) await markFinished(journal, to, target);
      return report;
    });
    await journal?.finish();
    return written;
  } finally {
    given.signal?.removeEventListener('abort', tellIfKept);
    if ((await journal?.leave()) && !given.signal?.aborted) tellKept();
    if (!given.device) await device.close();
  }
}

/** The phases that report progress, in their order. */
const stepsOf = (request: PruneRequest, { generate, report = true }: PruneOptions): PhaseName[] => [
  'load',
  ...(generate ? (['calibrate'] as const) : []),
  ...(request.windows ? [] : (['select'] as const)),
  ...(request.method.needsCalibration ? (['fit'] as const) : []),
  ...(request.settings.heal || request.gradient ? (['heal'] as const) : []),
  ...(report ? (['evaluate'] as const) : []),
  'write',
];

/** Numbers the events by the phase in which they are reported. */
const inSteps =
  (progress: Progress | undefined, clock: PhaseClock, steps: readonly PhaseName[]): Progress =>
  event => {
    const index = clock.current === undefined ? 0 : steps.indexOf(clock.current) + 1;
    progress?.(index > 0 ? { ...event, step: { index, of: steps.length } } : event);
  };

/** What the selection chooses; a file of statistics remembers it with everything that it may depend on. */
async function chosen(
  { selection, method, settings, count, windowCount, apart }: PruneRequest,
  { info }: Device,
  select: () => Promise<WindowChoice>,
  statistics: StatisticsFile | undefined,
): Promise<WindowChoice> {
  const repair = selection.dependsOnMethod ? [method.name, settings] : [];
  // Selections read more tokens on a GPU.
  const words = [selection.name, info.kind, count, windowCount, apart, ...repair];
  return statistics ? await statistics.choice(words, select) : await select();
}
