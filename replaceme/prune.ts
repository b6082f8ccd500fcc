import { Device } from '../engine/index.js';
import { loadChatTemplate } from '../model/chat.js';
import { withOutputFolder } from '../model/checkpoint/outputFolder.js';
import { openSafetensors } from '../model/checkpoint/safetensors.js';
import { logits } from '../model/logits.js';
import { Model } from '../model/model.js';
import { loadTokenizer } from '../model/tokenizer.js';
import {
  addGenerated,
  batchesOf,
  batchesRecipe,
  noCalibration,
  readTexts,
  statisticsRecipe,
} from './calibrate.js';
import { HiddenStates } from './hiddenStates.js';
import { writeDocumentation } from './modelCard.js';
import { PrunedModel } from './prunedModel.js';
import type { PruneOptions } from './pruneOptions.js';
import type { PruneReport } from './report.js';
import { calibrationSizes, checkPruneRequest, outputOptions, type PruneRequest } from './request.js';
import type { WindowChoice } from './selections/index.js';
import { StatisticsFile } from './statistics/file.js';
import { verifyWritten } from './verify.js';
import type { WalkOptions } from './walk.js';
import { describeWindows } from './window.js';
import { modelFingerprint, writePrunedModel } from './writeModel.js';

/**
 * Prunes the model in folder `from` into the new folder `to`: measure, choose the window, fit, fold, write, reload,
 * compare, rename. `to` appears only when all of it has succeeded.
 *
 * @throws RmError; see engine/errors.ts.
 */
export async function prune(from: string, to: string, options: PruneOptions = {}): Promise<PruneReport> {
  const started = performance.now();
  const request = await checkPruneRequest(from, to, options);
  const { method, arch, settings } = request;

  const device = options.device ?? (await Device.open(options));
  try {
    const { mask, generate, faithful } = options;
    const asked = {
      ...(mask !== undefined && { mask }),
      ...(generate !== undefined && { generate }),
      ...(faithful && { faithful }),
    };
    const recipe = { ...settings, ...asked, ...calibrationSizes(options, device, arch) };
    const tokenizer = await loadTokenizer(from);
    const fits = method.needsCalibration || settings.heal;
    const needed = fits || request.windows === undefined;
    const reader = needed && { tokenizer, chat: await loadChatTemplate(from, tokenizer) };
    const texts = reader ? await readTexts(reader, options, recipe) : noCalibration;
    let statistics: StatisticsFile | undefined;
    if (options.statistics !== undefined && reader) {
      statistics = await StatisticsFile.open(options.statistics);
      statistics.agree(await statisticsRecipe(from, texts, options, recipe));
    }
    using model = await Model.load(device, from, walk(options));
    const calibration = reader
      ? await addGenerated(texts, model, reader, options, recipe, statistics, walk(options))
      : texts;
    const batches = batchesOf(calibration, options, tokenizer, recipe);
    statistics?.agree(batchesRecipe(batches));
    using states = new HiddenStates(device, arch);
    const context = {
      model,
      batches,
      settings,
      // Where nothing is fitted, no later walk would use them.
      ...(fits && { states }),
      ...(statistics && { statistics }),
      ...walk(options),
    };
    const choice: WindowChoice = request.windows
      ? { windows: request.windows, by: 'request' }
      : await chosen(request, device, () => request.selection.select({ ...context, ...request }), statistics);
    const repair = await method.repair(context, choice.windows);
    using pruned = new PrunedModel(model, choice.windows, repair.changes);
    const { keep } = pruned;
    const sample = calibration.sequences[0]?.ids.slice(0, 64) ?? [0, 1, 2, 3];
    const expected = (await logits(pruned.model, sample)).logits;
    // From here on only the fitted weights are needed; the written model is loaded into the freed memory.
    states.dispose();
    model.dispose();

    return await withOutputFolder(to, outputOptions(from, options), async folder => {
      const checkpoint = await openSafetensors(from);
      try {
        using _section = device.section('write');
        await writePrunedModel(from, folder, checkpoint, arch, keep, pruned.replacements, {
          ...(options.maxShardBytes !== undefined && { maxShardBytes: options.maxShardBytes }),
          ...walk(options),
        });
      } finally {
        await checkpoint.close();
      }
      const maxLogitDifference = await verifyWritten(device, folder, sample, expected);
      const report: PruneReport = {
        summary: describeWindows(choice.windows, arch.layers),
        method: method.name,
        source: method.source,
        model: { path: from, fingerprint: await modelFingerprint(from), layers: arch.layers },
        output: { path: to, layers: keep.length, keptLayers: keep },
        selection: choice,
        recipe,
        calibration: {
          tokens: calibration.tokens,
          sequences: calibration.sequences.length,
          files: calibration.files,
        },
        fit: repair.details,
        warnings: [
          ...(repair.warnings ?? []),
          ...(device.programs.exact === 'integer' ? [INTEGERS_USED] : []),
        ],
        verification: { tokens: sample.length, maxLogitDifference },
        adapter: device.info,
        peakMemoryBytes: device.memory.peakBytes,
        seconds: (performance.now() - started) / 1000,
      };
      await writeDocumentation(folder, report);
      device.check();
      options.signal?.throwIfAborted();
      return report;
    });
  } finally {
    if (!options.device) await device.close();
  }
}

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

/** For work that reports progress but does not look at the signal: every step of it ends when the signal says so. */
const walk = ({ onProgress, signal }: WalkOptions): WalkOptions => ({
  onProgress: event => {
    signal?.throwIfAborted();
    onProgress?.(event);
  },
  ...(signal && { signal }),
});

const INTEGERS_USED =
  'the graphics driver changes float arithmetic that must be exact, so integers did it, which took longer';
