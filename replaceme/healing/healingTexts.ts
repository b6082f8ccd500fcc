import { RmError, sha256OfFile } from '../../engine/index.js';
import {
  type EncodedDocument,
  firstTokens,
  SequencePacker,
  type TextReader,
  totalTokens,
} from '../../model/index.js';
import { collectSequences } from '../calibration/collectSequences.js';
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
  { files, textField, tokens, sequenceLength, heldOutFiles, heldOutTokens }: HealingReading,
): Promise<HealingTexts> {
  const { tokenizer } = reader;
  const { paths, sources, documentCounts } = await openSources(reader, { files, textField });
  const packers = await Promise.all(sources.map(() => SequencePacker.open(tokenizer, sequenceLength)));
  const heldOutSequences: number[][] = [];
  const share = Math.ceil(heldOutTokens / paths.length);
  const trainingSources = sources.map((documents, source) =>
    heldOutFiles ? documents : withoutHeldOut(documents, packers[source]!, share, heldOutSequences),
  );
  const sequences = await collectSequences(trainingSources, tokenizer, { sequenceLength, tokens });
  for (const packer of packers) heldOutSequences.push(...packer.rest());
  if (sequences.length === 0 && heldOutSequences.length > 0)
    throw tooShort(paths, 'no text is left to train on');
  const texts = await describeCalibration(sequences, paths, documentCounts);
  const training = texts.sequences.filter(({ ids }) => ids.length > 1).map(({ ids }) => ({ ids, weight: 1 }));
  if (training.length === 0) throw tooShort(paths, 'no sequence of two tokens to train on');
  if (heldOutFiles) {
    const each = Math.ceil(heldOutTokens / heldOutFiles.length);
    for (const file of heldOutFiles) {
      const text = await readEvaluationText(file, reader, { textField, sequenceLength, tokens: each });
      heldOutSequences.push(...text.sequences.map(sequence => [...sequence]));
    }
  }
  const heldOut = firstTokens(
    heldOutSequences.filter(({ length }) => length > 1),
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

const tooShort = (paths: readonly string[], problem: string): RmError =>
  new RmError(
    'DATA_INVALID',
    `${paths.join(', ')}: ${problem}`,
    'Give more text, and text to measure on as `heldOut`.',
  );

/** Yields the documents to train on; packs every tenth into `heldOut` instead, up to `tokens` tokens. */
async function* withoutHeldOut(
  documents: AsyncGenerator<EncodedDocument>,
  packer: SequencePacker,
  tokens: number,
  heldOut: number[][],
): AsyncGenerator<EncodedDocument> {
  let index = 0;
  for await (const document of documents) {
    if (index++ % 10 === 0 && packer.tokens < tokens) {
      heldOut.push(...packer.add(document));
    } else yield document;
  }
}
