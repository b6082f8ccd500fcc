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
 * The calibration texts that are asked for in files; none where only the model is to write.
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
    weights,
    mask,
    generate,
    faithful,
  } = options;
  const from = { files, tasks, textField, tokens, sequenceLength };
  if (faithful) return faithfulCalibration(tokenizer, chat, from);
  if (generate !== undefined && !givesTexts(options)) return noCalibration;
  return readCalibration(tokenizer, chat, { ...from, weights, mask });
}

/** Those texts with what the model writes, mixed; what it wrote in an earlier run is in the statistics file. */
export async function addGenerated(
  texts: Calibration,
  model: Model,
  { tokenizer, chat }: TextReader,
  { generate: tokens, mask }: PruneOptions,
  { sequenceLength }: CalibrationSizes,
  statistics: { generated?: Calibration } | undefined,
  walk: RunHooks,
): Promise<Calibration> {
  if (tokens === undefined) return texts;
  const { journal = noJournal } = walk;
  const written = await journal.step('generated text', async () => {
    const known = statistics?.generated;
    return known ?? (await generateCalibration(model, tokenizer, chat, { tokens, sequenceLength, ...walk }));
  });
  if (statistics) statistics.generated = written;
  const copied = mask === undefined ? written.sequences : withMaskedCopies(written.sequences, mask, 0);
  const added = copied.map(sequence => ({ ...sequence, source: texts.files.length }));
  const copies = copied.length / written.sequences.length;
  const files = written.files.map(file => ({ ...file, tokens: copies * file.tokens }));
  return {
    sequences: interleave([texts.sequences, added], ({ ids }) => ids.length),
    tokens: texts.tokens + copies * written.tokens,
    files: [...texts.files, ...files],
  };
}

export const batchesOf = (
  calibration: Calibration,
  { faithful }: PruneOptions,
  tokenizer: Tokenizer,
  { batchTokens }: CalibrationSizes,
): CalibrationBatch[] =>
  faithful
    ? faithfulBatches(calibration, tokenizer, batchTokens)
    : calibrationBatches(calibration, batchTokens);
