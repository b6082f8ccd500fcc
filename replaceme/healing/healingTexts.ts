import { RmError, sha256OfFile } from '../../engine/index.js';
import {
  type EncodedDocument,
  firstTokens,
  SequencePacker,
  type TextReader,
  totalTokens,
} from '../../model/index.js';
import { type CalibrationSequence, collectSequences } from '../calibration/collectSequences.js';
import { type CalibrationFile, describeCalibration, openSources } from '../calibration/readCalibration.js';
import { readEvaluationText } from '../evaluation/evaluationText.js';
import type { TrainingSequence } from './sequenceOrder.js';

/** Texts to train on, and held-out texts to measure on. */
export interface HealingTexts {
  readonly training: readonly TrainingSequence[];
  readonly tokens: number;
  readonly files: readonly CalibrationFile[];
  /** Sequences of documents outside training, or of separate files. */
  readonly heldOut: readonly (readonly number[])[];
  /** SHA-256 of the separate held-out files; empty where there are none. */
  readonly heldOutSha256: readonly string[];
}

/** Which texts to read, and how much of them. */
interface HealingReading {
  readonly files: readonly string[];
  readonly textField?: string | undefined;
  readonly skipInvalid?: boolean | undefined;
  /** Most tokens to train on. */
  readonly tokens: number;
  readonly sequenceLength: number;
  /** Files to measure on, instead of a part of `files`. */
  readonly heldOutFiles?: readonly string[] | undefined;
  /** Most tokens to measure on. */
  readonly heldOutTokens: number;
}

/**
 * Reads token sequences to train on, packed as for calibration, and others to measure on: every tenth document of each
 * file, beginning with the first, up to `heldOutTokens`; or separate files.
 *
 * @throws RmError DATA_INVALID where a file cannot be read, or there is no text to train or to measure on.
 */
export async function readHealingTexts(
  reader: TextReader,
  { files: paths, textField, skipInvalid, ...reading }: HealingReading,
): Promise<HealingTexts> {
  const { tokens, sequenceLength, heldOutFiles, heldOutTokens } = reading;
  const { tokenizer } = reader;
  const { sources, files } = await openSources(
    reader,
    { files: paths, textField, skipInvalid },
    { tokens: tokens + (heldOutFiles ? 0 : heldOutTokens) },
  );
  const packers = await Promise.all(sources.map(() => SequencePacker.open(tokenizer, sequenceLength)));
  const heldOutSequences: SourceSequence[] = [];
  const share = Math.ceil(heldOutTokens / paths.length);
  const trainingSources = sources.map((documents, source) =>
    heldOutFiles ? documents : withoutHeldOut(documents, source, packers[source]!, share, heldOutSequences),
  );
  const collected = await collectSequences(trainingSources, tokenizer, { sequenceLength, tokens });
  for (const [source, packer] of packers.entries()) {
    for (const ids of packer.rest()) heldOutSequences.push({ ids, source });
  }
  const sequences = heldOutFiles ? collected : dividedAnew(collected, heldOutSequences, tokens);
  if (sequences.length === 0 && heldOutSequences.length > 0)
    throw tooShort(paths, 'no text is left to train on');
  const texts = await describeCalibration(sequences, files);
  const training = texts.sequences.filter(({ ids }) => ids.length > 1).map(({ ids }) => ({ ids, weight: 1 }));
  if (training.length === 0) throw tooShort(paths, 'no sequence of two tokens to train on');
  if (heldOutFiles) {
    const each = Math.ceil(heldOutTokens / heldOutFiles.length);
    for (const file of heldOutFiles) {
      const options = { textField, skipInvalid, sequenceLength, tokens: each };
      const { sequences: measured } = await readEvaluationText(file, reader, options);
      for (const ids of measured) heldOutSequences.push({ ids, source: 0 });
    }
  }
  const heldOut = firstTokens(
    heldOutSequences.map(({ ids }) => [...ids]).filter(({ length }) => length > 1),
    heldOutTokens,
  ).filter(({ length }) => length > 1);
  if (heldOut.length === 0) {
    throw tooShort(paths, 'no document to measure on');
  }
  return {
    training,
    tokens: totalTokens(training.map(({ ids }) => ids)),
    files: texts.files,
    heldOut,
    heldOutSha256: await Promise.all((heldOutFiles ?? []).map(sha256OfFile)),
  };
}

/** A sequence and the index of its file. */
type SourceSequence = Omit<CalibrationSequence, 'half'>;

/**
 * The sequences to train on; every tenth of all sequences is left in `heldOut` where the documents to train on have fewer
 * tokens than those to measure on: a single document, or a long one before short ones.
 */
function dividedAnew(
  training: readonly CalibrationSequence[],
  heldOut: SourceSequence[],
  tokens: number,
): readonly CalibrationSequence[] {
  const tokensOf = (some: readonly SourceSequence[]) => totalTokens(some.map(({ ids }) => ids));
  if (tokensOf(training) >= tokensOf(heldOut)) return training;
  const all = [...heldOut.map(sequence => ({ ...sequence, half: 0 as const })), ...training];
  heldOut.length = 0;
  const kept: CalibrationSequence[] = [];
  let left = tokens;
  for (const [i, sequence] of all.entries()) {
    if (i % 10 === 0) heldOut.push(sequence);
    else if (left > 0) {
      kept.push({ ...sequence, ids: sequence.ids.slice(0, left) });
      left -= sequence.ids.length;
    }
  }
  return kept;
}

const tooShort = (paths: readonly string[], problem: string): RmError =>
  new RmError(
    'DATA_INVALID',
    `${paths.join(', ')}: ${problem}`,
    'Give more text, and text to measure on as `heldOut`.',
  );

/** Yields the documents to train on; packs every tenth into `heldOut` instead, up to `tokens` tokens. */
async function* withoutHeldOut(
  documents: AsyncGenerator<EncodedDocument>,
  source: number,
  packer: SequencePacker,
  tokens: number,
  heldOut: SourceSequence[],
): AsyncGenerator<EncodedDocument> {
  let index = 0;
  for await (const document of documents) {
    if (index++ % 10 === 0 && packer.tokens < tokens) {
      for (const ids of packer.add(document)) heldOut.push({ ids, source });
    } else yield document;
  }
}
