import { type Device, sha256OfJson } from '../../engine/index.js';
import { type Architecture, logits, type Model, openTextReader } from '../../model/index.js';
import { addGenerated, batchesOf, noCalibration, readRequestedTexts } from '../calibration/requestedTexts.js';
import type { CalibrationSizes } from '../calibration/sizes.js';
import { defaultEvaluationTokens } from '../calibration/sizes.js';
import { evaluatePruned, tokensOfAll } from '../evaluation/evaluatePruned.js';
import { readReportTexts, textsOf } from '../evaluation/evaluationText.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { dateOf } from '../run/dateOf.js';
import { runHooks } from '../run/runHooks.js';
import { StatisticsFile } from '../statistics/statisticsFile.js';
import { batchesRecipe, statisticsRecipe } from '../statistics/statisticsRecipe.js';
import type { PruneInputs } from './pruneInputs.js';

/**
 * Reads the texts for pruning a language model.
 *
 * @param needsCalibration whether the run uses calibration texts.
 * @param needsHeldOut whether it measures models on held-out text, also without a report.
 * @throws RmError as readTexts, readReportTexts and StatisticsFile do.
 */
export async function readTextInputs(
  from: string,
  arch: Architecture,
  device: Device,
  options: PruneOptions,
  sizes: CalibrationSizes,
  needsCalibration: boolean,
  needsHeldOut = false,
): Promise<PruneInputs> {
  const reader = await openTextReader(from, options);
  const texts = needsCalibration ? await readRequestedTexts(reader, options, sizes) : noCalibration;
  const recipe = await statisticsRecipe(from, texts, options, sizes, reader);
  let statistics: StatisticsFile | undefined;
  if (options.statistics !== undefined && needsCalibration) {
    statistics = await StatisticsFile.open(options.statistics);
    statistics.agree(recipe);
    await statistics.fits(arch);
  }
  const withReport = options.report !== 'none';
  const reportTexts =
    withReport || needsHeldOut ? await readReportTexts(device, arch, reader, texts, options) : undefined;
  return {
    ...(statistics && { statistics }),
    ...dateOf(reader),
    recipe: {
      ...recipe,
      'texts of the report': reportTexts && sha256OfJson(reportTexts.texts.map(({ sequences }) => sequences)),
    },
    async open(model: Model) {
      const calibration = needsCalibration
        ? await addGenerated(texts, model, reader, options, sizes, statistics, runHooks(options))
        : texts;
      const batches = await batchesOf(calibration, options, reader.tokenizer, sizes);
      statistics?.agree(batchesRecipe(batches));
      const sample = calibration.sequences[0]?.ids.slice(0, 64) ?? [0, 1, 2, 3];
      const outputs = async (either: Model) => (await logits(either, sample)).logits;
      return {
        model,
        calibration,
        batches,
        heldOut: reportTexts ? tokensOfAll(reportTexts.texts, defaultEvaluationTokens(device)) : [],
        outputTokens: sample.length,
        outputs,
        outputsOfLoaded: outputs,
        ...(withReport &&
          reportTexts && {
            evaluate: async (outcome, extent) => ({
              evaluation: await evaluatePruned(outcome, textsOf(reportTexts, extent.tokenShare), reader, {
                full: extent.extent === 'full',
                batchTokens: sizes.batchTokens,
                ...runHooks(options),
              }),
            }),
          }),
        [Symbol.dispose]() {},
      };
    },
  };
}
