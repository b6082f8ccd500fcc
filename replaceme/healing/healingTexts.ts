import { RmError } from '../../engine/index.js';
import {
  type Document,
  firstTokens,
  SequencePacker,
  type TextReader,
  totalTokens,
} from '../../model/index.js';
import { collectSequences } from '../calibration/collectSequences.js';
import { type CalibrationFile, describeCalibration, openSources } from '../calibration/readCalibration.js';
import { readEvaluationText } from '../evaluation/evaluationText.js';
import { sha256OfFile } from '../run/sha256.js';
import type { TrainingSequence } from './sequenceOrder.js';

/** What is trained on, and what is not, to see by. */
export interface HealingTexts {
  readonly training: readonly TrainingSequence[];
  readonly tokens: number;
  readonly files: readonly CalibrationFile[];
  /** Of documents that are not trained on, or of files of their own. */
  readonly heldOut: readonly (readonly number[])[];
  /** Of the files it comes from, where these are others. */
  readonly heldOutSha256: readonly string[];
}

/** How much is read, and of what. */
export interface HealingReading {
  readonly files: readonly string[];
  readonly textField?: string | undefined;
  /** To train on, at most. */
  readonly tokens: number;
  readonly sequenceLength: number;
  /** Files to measure on, instead of a part of `files`. */
  readonly heldOutFiles?: readonly string[] | undefined;
  /** To measure on, at most. */
  readonly heldOutTokens: number;
}

/**
 * Token sequences to train on, as calibration makes them, and others to measure on: every tenth document of each file,
 * beginning with the first, or files of their own.
 *
 * @throws RmError DATA_INVALID where a file cannot be read, or there is nothing to train or measure on.
 */
export async function readHealingTexts(
  reader: TextReader,
  { files, textField, tokens, sequenceLength, heldOutFiles, heldOutTokens }: HealingReading,
): Promise<HealingTexts> {
  const { tokenizer, chat } = reader;
  const { paths, sources, read } = await openSources(chat, { files, textField });
  const packers = sources.map(() => new SequencePacker(tokenizer, chat, sequenceLength));
  const apart: number[][] = [];
  const share = Math.ceil(heldOutTokens / paths.length);
  const withoutHeldOut = sources.map((documents, source) =>
    heldOutFiles ? documents : without(documents, packers[source]!, share, apart),
  );
  const sequences = await collectSequences(withoutHeldOut, tokenizer, chat, { sequenceLength, tokens });
  for (const packer of packers) apart.push(...packer.rest());
  if (sequences.length === 0 && apart.length > 0) throw tooShort(paths, 'nothing is left to train on');
  const found = await describeCalibration(sequences, paths, read);
  const training = found.sequences.filter(({ ids }) => ids.length > 1).map(({ ids }) => ({ ids, weight: 1 }));
  if (training.length === 0) throw tooShort(paths, 'no sequence of two tokens to train on');
  if (heldOutFiles) {
    const each = Math.ceil(heldOutTokens / heldOutFiles.length);
    for (const file of heldOutFiles) {
      const text = await readEvaluationText(file, reader, { textField, sequenceLength, tokens: each });
      apart.push(...text.sequences.map(sequence => [...sequence]));
    }
  }
  const heldOut = firstTokens(
    apart.filter(({ length }) => length > 1),
    heldOutTokens,
  ).filter(({ length }) => length > 1);
  if (heldOut.length === 0) {
    throw tooShort(paths, 'no document to measure on');
  }
  return {
    training,
    tokens: totalTokens(training.map(({ ids }) => ids)),
    files: found.files,
    heldOut,
    heldOutSha256: await Promise.all((heldOutFiles ?? []).map(sha256OfFile)),
  };
}

const tooShort = (paths: readonly string[], problem: string): RmError =>
  new RmError(
    'DATA_INVALID',
    `${paths.join(', ')}: ${problem}`,
    'Give more text, and text to measure on as `heldOut`.',
  );

/** The documents but those that go to `packer` instead, whose full sequences go to `apart`. */
async function* without(
  documents: AsyncGenerator<Document>,
  packer: SequencePacker,
  tokens: number,
  apart: number[][],
): AsyncGenerator<Document> {
  let index = 0;
  for await (const document of documents) {
    if (index++ % 10 === 0 && packer.tokens < tokens) apart.push(...packer.add(document));
    else yield document;
  }
}
