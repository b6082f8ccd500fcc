import { type Device, type DeviceFacts, RmError, sha256OfFile } from '../../engine/index.js';
import {
  type Architecture,
  type FileOptions,
  type FileSequences,
  fileSequences,
  firstTokens,
  shippedPath,
  type TextReader,
  totalTokens,
} from '../../model/index.js';
import { type Calibration, shippedCalibration } from '../calibration/readCalibration.js';
import { defaultEvaluationTokens } from '../calibration/sizes.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import type { EvaluatedText } from './pruneEvaluation.js';

/** The token sequences of an evaluation file. */
export interface EvaluationText extends FileSequences {
  readonly file: string;
}

/** The first tokens of each text: this share of all. */
export function textsOf({ texts, described }: ReportTexts, share: number): ReportTexts {
  if (share >= 1) return { texts, described };
  const first = texts.map(text => ({
    ...text,
    sequences: firstTokens(
      text.sequences as readonly number[][],
      Math.max(2, Math.ceil(share * totalTokens(text.sequences))),
    ),
  }));
  return {
    texts: first,
    described: described.map((text, t) => {
      const { sequences } = first[t]!;
      return { ...text, tokens: totalTokens(sequences), sequences: sequences.length };
    }),
  };
}

/** Fewer tokens than this say too little. */
const FEWEST_TOKENS = 256;

/**
 * Reads and tokenises an evaluation file.
 *
 * @throws RmError DATA_INVALID where it cannot be read, or has too few tokens to predict any.
 */
export async function readEvaluationText(
  file: string,
  reader: TextReader,
  options: FileOptions,
): Promise<EvaluationText> {
  const text = await fileSequences(file, reader, options);
  if (text.sequences.length === 0) {
    throw new RmError('DATA_INVALID', `${file}: has fewer than two tokens`, 'Evaluate on longer text.');
  }
  return { file, ...text };
}

/** Evaluation texts for the report of a prune: the given files, or text that no fit has seen. */
export interface ReportTexts {
  readonly texts: readonly EvaluationText[];
  readonly described: readonly EvaluatedText[];
}

/** Most tokens that models are evaluated on, all files together. */
export const evaluationTokens = (options: PruneOptions, device: DeviceFacts): number =>
  (options.evaluationTokens ?? defaultEvaluationTokens(device)) *
  Math.max(1, options.evaluation?.length ?? 1);

/**
 * Reads the files in `options.evaluation`. Without them reads on in the calibration files, after the documents that
 * calibration used; where too little follows, reads a text that ships with the package.
 *
 * @throws RmError DATA_INVALID as readEvaluationText.
 */
export async function readReportTexts(
  device: Device,
  { contextLength }: Architecture,
  reader: TextReader,
  { files }: Pick<Calibration, 'files'>,
  options: PruneOptions,
): Promise<ReportTexts> {
  const { evaluation = [], evaluationTokens: tokens, textField, skipInvalid } = options;
  const { sequenceLength = 1024 } = options;
  // A sequence of one token predicts nothing.
  const reading = {
    textField,
    skipInvalid,
    sequenceLength: Math.min(Math.max(2, sequenceLength), contextLength),
  };
  const describe = async (
    { file, sequences, leftOut }: EvaluationText,
    origin: EvaluatedText['origin'],
  ): Promise<EvaluatedText> => ({
    file,
    sha256: await sha256OfFile(file),
    tokens: totalTokens(sequences),
    sequences: sequences.length,
    origin,
    ...(leftOut && { leftOut }),
  });
  const all = async (texts: readonly EvaluationText[], origin: EvaluatedText['origin']) => ({
    texts,
    described: await Promise.all(texts.map(text => describe(text, origin))),
  });
  if (evaluation.length > 0) {
    const texts: EvaluationText[] = [];
    for (const file of evaluation) {
      texts.push(
        await readEvaluationText(file, reader, {
          ...reading,
          tokens: tokens ?? defaultEvaluationTokens(device),
        }),
      );
    }
    return all(texts, 'given');
  }
  const calibrationFiles = options.calibration?.length ? options.calibration : undefined;
  const paths = calibrationFiles ?? (await shippedCalibration(reader.chat.available));
  const most = tokens ?? defaultEvaluationTokens(device);
  const unseen: EvaluationText[] = [];
  for (const file of paths) {
    const skip = files.find(({ path }) => path === file)?.documents ?? 0;
    const share = Math.ceil(most / paths.length);
    const text = await fileSequences(file, reader, { ...reading, tokens: share, skip });
    const sequences = text.sequences.filter(({ length }) => length > 1);
    if (sequences.length > 0) unseen.push({ file, texts: text.texts, sequences });
  }
  if (totalTokens(unseen.flatMap(({ sequences }) => sequences)) >= Math.min(FEWEST_TOKENS, most)) {
    return all(unseen, calibrationFiles ? 'held-out calibration' : 'shipped');
  }
  const shipped = shippedPath('demo-heldout.txt');
  return all([await readEvaluationText(shipped, reader, { ...reading, tokens: most })], 'shipped');
}
