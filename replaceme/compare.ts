import { type Device, sha256OfFile } from '../engine/index.js';
import { leftOutWarnings, modelWarnings, openTextReader, totalTokens } from '../model/index.js';
import { cappedSequences, cappedTokens } from './calibration/cappedTokens.js';
import { calibrationWarnings } from './calibration/readCalibration.js';
import { batchesOf, readRequestedTexts } from './calibration/requestedTexts.js';
import { calibrationSizes } from './calibration/sizes.js';
import { Comparing } from './compare/comparing.js';
import { type CompareOptions, checkCompareRequest } from './compare/request.js';
import { type ComparisonKey, RowStore, writeTable } from './compare/rows.js';
import { comparisonMarkdown } from './compare/table.js';
import { type EvaluationText, readReportTexts } from './evaluation/evaluationText.js';
import type { PruneOptions } from './options/pruneOptions.js';
import { repeatOf } from './report/repeat.js';
import { exactnessWarnings, reportHead, reportModel } from './report/reportHead.js';
import type { CompareReport } from './report/schema/schema.js';
import { compareSentence } from './report/sentence.js';
import { replaceReports } from './report/writeReport.js';
import { dateOf } from './run/dateOf.js';
import { openDevice } from './run/openDevice.js';
import { packageVersion } from './run/packageVersion.js';
import { PhaseClock } from './run/phaseClock.js';

/**
 * Compares methods on one model and one set of calibration data: every method at every number of removed layers
 * selects, repairs and is evaluated in memory against the model as it is. With `options.out` a stopped comparison
 * goes on where it was.
 *
 * @throws RmError INVALID_ARGUMENT and DATA_INVALID before a device is opened; OUT_OF_MEMORY before a model is loaded,
 *   where one of the rows does not fit in any way; OUTPUT_EXISTS where `out` holds rows of
 *   other data or settings; else as `prune`. A method's own INVALID_ARGUMENT is a row with the reason.
 */
export async function compare(from: string, options: CompareOptions): Promise<CompareReport> {
  const { shared, arch, candidates, ...request } = await checkCompareRequest(from, options);
  const started = performance.now();
  await using lease = await openDevice(options);
  const { device } = lease;
  const clock = new PhaseClock(device, started);
  const reader = await openTextReader(from, shared);
  const recipe = { ...calibrationSizes(shared, device, arch), ...dateOf(reader) };
  const calibration = await clock.during('calibrate', () => readRequestedTexts(reader, shared, recipe));
  const unseen = request.texts ? undefined : await readReportTexts(device, arch, reader, calibration, shared);
  const texts = request.texts ?? unseen!.texts;
  const origin = unseen?.described[0]?.origin;
  const inputs = {
    model: await reportModel(from),
    recipe,
    calibration: {
      tokens: calibration.tokens,
      sequences: calibration.sequences.length,
      files: calibration.files,
    },
    evaluation: (await Promise.all(texts.map(describeText))).map(text => ({
      ...text,
      ...(origin && { origin }),
    })),
  };
  const store = new RowStore(options.out, keyOf(inputs, shared, await packageVersion(), device));
  const batches = await batchesOf(calibration, shared, reader.tokenizer, recipe);
  using comparing = new Comparing(
    from,
    device,
    clock,
    { ...options, ...recipe },
    shared,
    texts,
    reader,
    batches,
  );
  const rows = await comparing.all(store, candidates);
  const facts = { ...inputs, ...rows };
  const report: CompareReport = {
    ...(await reportHead(device, clock)),
    kind: 'compare',
    sentence: compareSentence(facts),
    repeat: repeatOf('compare', [from], options),
    warnings: [
      ...(await modelWarnings(from)),
      ...calibrationWarnings(calibration.files),
      ...leftOutWarnings(texts),
      ...cappedSequences(shared.sequenceLength, arch.contextLength),
      ...cappedTokens('tokens', shared.tokens, 'the calibration texts', calibration.tokens),
      ...exactnessWarnings(device),
    ],
    ...facts,
  };
  if (options.out !== undefined) {
    await replaceReports(options.out, report);
    await writeTable(options.out, comparisonMarkdown(report));
  }
  return report;
}

const describeText = async ({ file, sequences }: EvaluationText) => ({
  file,
  sha256: await sha256OfFile(file),
  tokens: totalTokens(sequences),
});

/** Data and settings that every row depends on. Files count by content, not by place. */
function keyOf(
  head: Pick<CompareReport, 'model' | 'recipe' | 'calibration' | 'evaluation'>,
  shared: PruneOptions,
  version: string,
  { info }: Device,
): ComparisonKey {
  const { calibration, weights, device, adapter, memoryLimit, force, ...rest } = shared;
  const { onProgress, onNotice, signal, ...others } = rest;
  const { report, command, ...settings } = others;
  return {
    ...settings,
    ...head.recipe,
    version,
    model: head.model.fingerprint,
    adapter: info.description,
    calibration: head.calibration.files.map(({ sha256, weight }) => ({ sha256, weight })),
    evaluation: head.evaluation.map(({ sha256 }) => sha256),
  };
}
