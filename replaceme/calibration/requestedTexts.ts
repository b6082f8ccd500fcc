import { noJournal } from '../../engine/index.js';
import type { Model, TextReader, Tokenizer } from '../../model/index.js';
import { givesTexts, type PruneOptions } from '../options/pruneOptions.js';
import type { RunHooks } from '../run/runHooks.js';
import type { CalibrationBatch } from './calibrationBatch.js';
import { interleave } from './collectSequences.js';
import { faithfulBatches, faithfulCalibration } from './faithfulCalibration.js';
import { generateCalibration } from './generateCalibration.js';
import { withMaskedCopies } from './maskedCopies.js';
import { calibrationBatches } from './packBatches.js';
import { type Calibration, readCalibration } from './readCalibration.js';
import type { CalibrationSizes } from './sizes.js';

export const noCalibration: Calibration = { sequences: [], tokens: 0, files: [] };

/**
 * Reads the calibration texts that the options name; none where the model writes all of them.
 *
 * @throws RmError as readCalibration and faithfulCalibration.
 */
export async function readRequestedTexts(
  { tokenizer, chat }: TextReader,
  options: PruneOptions,
  { tokens, sequenceLength }: CalibrationSizes,
): Promise<Calibration> {
  const {
    calibration: files,
    calibrationTasks: tasks,
    textField,
    skipInvalid,
    weights,
    mask,
    seed,
    generate,
    faithful,
  } = options;
  const from = { files, tasks, textField, skipInvalid, tokens, sequenceLength };
  if (faithful) return faithfulCalibration(tokenizer, chat, from);
  if (generate !== undefined && !givesTexts(options)) return noCalibration;
  return readCalibration(tokenizer, chat, { ...from, weights, mask, seed });
}

/**
 * Mixes the texts with text that the model writes, if the options ask for it. A statistics file returns what the model
 * wrote in an earlier run, or keeps what it writes now.
 */
export async function addGenerated(
  texts: Calibration,
  model: Model,
  { tokenizer, chat }: TextReader,
  { generate: tokens, mask, seed = 0 }: PruneOptions,
  { sequenceLength }: CalibrationSizes,
  statistics: { generated?: Calibration } | undefined,
  hooks: RunHooks,
): Promise<Calibration> {
  if (tokens === undefined) return texts;
  const { journal = noJournal } = hooks;
  const written = await journal.step(
    'generated text',
    async () =>
      statistics?.generated ??
      (await generateCalibration(model, tokenizer, chat, { tokens, sequenceLength, seed, ...hooks })),
  );
  if (statistics) statistics.generated = written;
  const copied = mask === undefined ? written.sequences : withMaskedCopies(written.sequences, mask, seed);
  const added = copied.map(sequence => ({ ...sequence, source: texts.files.length }));
  const copies = copied.length / written.sequences.length;
  const files = written.files.map(file => ({ ...file, tokens: copies * file.tokens }));
  return {
    sequences: interleave([texts.sequences, added], ({ ids }) => ids.length),
    tokens: texts.tokens + copies * written.tokens,
    files: [...texts.files, ...files],
  };
}

/** Packs calibration texts into batches, as the original program does with `faithful`. */
export const batchesOf = async (
  calibration: Calibration,
  { faithful }: PruneOptions,
  tokenizer: Tokenizer,
  { batchTokens }: CalibrationSizes,
): Promise<CalibrationBatch[]> =>
  faithful
    ? await faithfulBatches(calibration, tokenizer, batchTokens)
    : calibrationBatches(calibration, batchTokens);
