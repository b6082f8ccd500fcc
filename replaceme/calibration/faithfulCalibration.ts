import { RmError } from '../../engine/index.js';
import { type ChatTemplate, groupSequences, type Tokenizer } from '../../model/index.js';
import type { CalibrationBatch } from './calibrationBatch.js';
import { type CalibrationSequence, fewestTokensFirst } from './collectSequences.js';
import {
  type Calibration,
  type CalibrationOptions,
  describeCalibration,
  openSources,
} from './readCalibration.js';

/** The original program tokenises and pads this many texts together. */
const TEXTS_TOGETHER = 8;

/** `texts`: the most texts to read. */
export type FaithfulOptions = Pick<
  CalibrationOptions,
  'files' | 'tasks' | 'textField' | 'skipInvalid' | 'tokens' | 'sequenceLength'
> & {
  texts?: number | undefined;
};

/**
 * Calibration sequences as in the original ReplaceMe program (mts-ai/ReplaceMe at 5bb71d9), quirks included:
 * - the template writes BOS into a conversation, and tokenising with special tokens adds a second BOS;
 * - every document becomes one sequence, short or long, cut at `sequenceLength`; the rest is dropped;
 * - the last texts are left out where they fill no batch of 8 (`drop_last=True`).
 * The program fits on all documents: all are in half 0, and no file has a weight. It counts texts, not tokens; reading
 * ends before the text that would exceed `texts` or `tokens`. It reads one data set; with several files, the next text
 * comes from the file with the fewest tokens so far.
 *
 * @throws RmError DATA_INVALID for fewer than 8 texts and as readDocuments.
 */
export async function faithfulCalibration(
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  { tokens, sequenceLength, texts = Number.POSITIVE_INFINITY, ...from }: FaithfulOptions,
): Promise<Calibration> {
  // With special tokens: a conversation gets a second BOS where the template writes one.
  const { sources, files } = await openSources({ tokenizer, chat }, from, { addSpecialTokens: true });
  const read: CalibrationSequence[] = [];
  const counts = sources.map(() => 0);
  let total = 0;
  const inTurn = fewestTokensFirst(sources, new Set(sources.keys()), source => counts[source]!);
  for await (const { document, source } of inTurn) {
    const ids = document.ids.slice(0, sequenceLength);
    if (ids.length === 0) continue;
    total += ids.length;
    if (total > tokens || read.length >= texts) break;
    counts[source]! += ids.length;
    read.push({ ids, source, half: 0 });
  }
  const sequences = read.slice(0, read.length - (read.length % TEXTS_TOGETHER));
  if (sequences.length === 0) {
    throw new RmError(
      'DATA_INVALID',
      `${files.map(({ path }) => path).join(', ')}: ${read.length} texts, but the original program takes ${TEXTS_TOGETHER} at a time`,
      `Give ${TEXTS_TOGETHER} texts or more and tokens for them, or leave out \`faithful\`.`,
    );
  }
  return describeCalibration(sequences, files);
}

/** The original program's padding: the tokenizer's padding token, else its end-of-text token. */
async function paddingId(tokenizer: Tokenizer): Promise<number> {
  const { pad_token, eos_token } = tokenizer.specialTokens;
  const [id] = await tokenizer.encode(pad_token ?? eos_token ?? '', { addSpecialTokens: false });
  return id ?? tokenizer.eosIds[0] ?? 0;
}

/**
 * The batches of the original program: it pads each 8 sequences of faithfulCalibration, in order, on the right to the
 * longest of them, and padding counts in statistics like any token. Only the padded length depends on the 8, so batches
 * of more than `batchTokens` tokens are divided. Padding is on the right whatever tokenizer_config.json says:
 * transformers' default, and that of most models.
 */
export async function faithfulBatches(
  { sequences }: Pick<Calibration, 'sequences'>,
  tokenizer: Tokenizer,
  batchTokens: number,
): Promise<CalibrationBatch[]> {
  const padding = await paddingId(tokenizer);
  const batches: CalibrationBatch[] = [];
  for (let first = 0; first < sequences.length; first += TEXTS_TOGETHER) {
    const together = sequences.slice(first, first + TEXTS_TOGETHER).map(({ ids }) => ids);
    const longest = Math.max(...together.map(({ length }) => length));
    const padded = together.map(ids => ({ ids, length: longest }));
    for (const group of groupSequences(padded, batchTokens)) {
      batches.push({
        sequences: group.map(({ ids }) => [...ids, ...new Array<number>(longest - ids.length).fill(padding)]),
        lengths: group.map(({ ids }) => ids.length),
        half: 0,
        weight: 1,
      });
    }
  }
  return batches;
}
