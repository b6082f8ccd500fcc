import { readdir } from 'node:fs/promises';
import {
  atLeastZero,
  checkArguments,
  ensure,
  flag,
  listOf,
  numeric,
  optional,
  RmError,
  sha256OfFile,
  text,
  whole,
} from '../../engine/index.js';
import {
  aChat,
  aPath,
  aTokenizer,
  type ChatTemplate,
  type Document,
  type EncodedDocument,
  type EncodingOptions,
  encodeDocuments,
  LeftOutCount,
  type LeftOutRows,
  leftOutWarnings,
  readDocuments,
  settingsAmong,
  shippedPath,
  type TextReader,
  type Tokenizer,
  totalTokens,
} from '../../model/index.js';
import { type CalibrationSequence, collectSequences } from './collectSequences.js';
import { withMaskedCopies } from './maskedCopies.js';
import { readTaskTexts } from './taskTexts.js';

/** A calibration file and how much of it was used. */
export interface CalibrationFile {
  /** The file's path, or a description of text that comes from no file. */
  readonly path: string;
  /** SHA-256 of the file's bytes; without a file, of its token ids. */
  readonly sha256: string;
  /** How much its tokens count, relative to those of other files. */
  readonly weight: number;
  /** Tokens used. */
  readonly tokens: number;
  /** Documents read, where the file has documents. */
  readonly documents?: number;
  /** Rows that were read and left out. */
  readonly leftOut?: LeftOutRows;
}

/** Token sequences to calibrate with, and the files they come from. */
export interface Calibration {
  /** Sources and halves are mixed, so that any beginning is a fair sample. */
  readonly sequences: readonly CalibrationSequence[];
  readonly tokens: number;
  /** By source. */
  readonly files: readonly CalibrationFile[];
}

/** Which calibration texts to read, and how. */
export interface CalibrationOptions {
  /** .jsonl, .json, .txt or .parquet files; default: the small set that ships with the package. */
  files?: readonly string[] | undefined;
  /** Tasks whose rows serve as calibration texts too, in the forms that findTasks understands, such as NAME=ROWS. */
  tasks?: readonly string[] | undefined;
  /** Most tokens of all files together; masked copies are additional. */
  tokens: number;
  sequenceLength: number;
  textField?: string | undefined;
  /** Leave rows out that cannot be used, and count them (default: the first one is an error). */
  skipInvalid?: boolean | undefined;
  /** How much a token of each file counts in statistics (default 1 each). */
  weights?: readonly number[] | undefined;
  /** Adds a copy of every sequence with this share of its tokens, between 0 and 1, replaced at random. Default: no copies. */
  mask?: number | undefined;
  /** Random seed (default 0). */
  seed?: number | undefined;
}

const calibrationForm = settingsAmong<CalibrationOptions>({
  files: optional(listOf(aPath)),
  tasks: optional(listOf(text)),
  tokens: atLeastZero,
  sequenceLength: whole(1),
  textField: optional(text),
  skipInvalid: optional(flag),
  weights: optional(listOf(numeric)),
  mask: optional(numeric),
  seed: optional(numeric),
});

/** Paths of the calibration files that ship with the package; conversations are for models with a chat template. */
export async function shippedCalibration(conversations: boolean): Promise<string[]> {
  checkArguments('shippedCalibration', { conversations }, { conversations: flag });
  const names = (await readdir(shippedPath('calibration'))).filter(name => name.endsWith('.jsonl')).sort();
  return names
    .filter(name => conversations || !name.startsWith('conversations'))
    .map(name => shippedPath('calibration', name));
}

/** Opened calibration texts, indexed by source. */
export interface Sources {
  readonly sources: AsyncGenerator<EncodedDocument>[];
  readonly files: readonly SourceFile[];
}

/** A file, or the rows of a task, and what was read of it so far. */
export interface SourceFile {
  readonly path: string;
  /** Documents taken. */
  documents: number;
  readonly leftOut: LeftOutCount;
}

/**
 * Opens the given files, then the tasks' rows; without either, the files that ship with the package.
 *
 * @param encoding as encodeDocuments.
 */
export async function openSources(
  { tokenizer, chat }: TextReader,
  {
    files = [],
    tasks = [],
    textField,
    skipInvalid,
  }: Pick<CalibrationOptions, 'files' | 'tasks' | 'textField' | 'skipInvalid'>,
  encoding: Pick<EncodingOptions, 'addSpecialTokens' | 'tokens'> = {},
): Promise<Sources> {
  const filePaths = files.length + tasks.length > 0 ? files : await shippedCalibration(chat.available);
  const read = (file: SourceFile) =>
    readDocuments(file.path, { textField, skipInvalid, onLeftOut: file.leftOut.add });
  const fileOf = (path: string): SourceFile => ({ path, documents: 0, leftOut: new LeftOutCount() });
  const all: { file: SourceFile; documents: Iterable<Document> | AsyncIterable<Document> }[] = [
    ...filePaths.map(fileOf).map(file => ({ file, documents: read(file) })),
    ...(await readTaskTexts(tasks)).map(({ path, documents }) => ({ file: fileOf(path), documents })),
  ];
  const sources = all.map(async function* ({ file, documents }) {
    const options = { ...encoding, skipInvalid, onLeftOut: file.leftOut.add };
    for await (const document of encodeDocuments(documents, tokenizer, chat, options)) {
      file.documents++;
      yield document;
    }
  });
  return { sources, files: all.map(({ file }) => file) };
}

/**
 * Describes sequences and the files they come from.
 *
 * @throws RmError DATA_INVALID where there are no sequences.
 */
export async function describeCalibration(
  sequences: readonly CalibrationSequence[],
  files: readonly SourceFile[],
  weights: readonly number[] = files.map(() => 1),
): Promise<Calibration> {
  if (sequences.length === 0) {
    throw new RmError(
      'DATA_INVALID',
      `${files.map(({ path }) => path).join(', ')}: no calibration tokens`,
      'Give files with text or conversations.',
    );
  }
  const tokensOf = (some: readonly CalibrationSequence[]) => totalTokens(some.map(({ ids }) => ids));
  const described = files.map(async ({ path, documents, leftOut }, source) => ({
    path,
    sha256: await sha256OfFile(path),
    weight: weights[source]!,
    tokens: tokensOf(sequences.filter(sequence => sequence.source === source)),
    documents,
    ...(leftOut.rows && { leftOut: leftOut.rows }),
  }));
  return { sequences, tokens: tokensOf(sequences), files: await Promise.all(described) };
}

function checkWeights(weights: readonly number[], files: number): void {
  ensure(
    weights.length === files,
    `${weights.length} weights for ${files} calibration files`,
    'Give one weight for every file.',
  );
  for (const weight of weights) {
    ensure(
      Number.isFinite(weight) && weight > 0,
      `a calibration file has weight ${weight}`,
      'Give numbers above 0, and leave out files that should not count.',
    );
  }
}

/**
 * Reads token sequences for calibration: plain text as it is, conversations rendered by the model's own chat template.
 * Files contribute equal tokens, and their documents are divided into two halves.
 *
 * @throws RmError DATA_INVALID when a file cannot be read or there are no tokens at all; INVALID_ARGUMENT for an invalid
 *   weight or mask.
 */
export async function readCalibration(
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  options: CalibrationOptions,
): Promise<Calibration> {
  checkArguments(
    'readCalibration',
    { tokenizer, chat, options },
    { tokenizer: aTokenizer, chat: aChat, options: calibrationForm },
  );
  const { tokens, sequenceLength, weights, mask, seed = 0, ...from } = options;
  const { sources, files } = await openSources({ tokenizer, chat }, from, { tokens });
  if (weights) checkWeights(weights, files.length);
  const read = await collectSequences(sources, tokenizer, { sequenceLength, tokens });
  const sequences = mask === undefined ? read : withMaskedCopies(read, mask, seed);
  return describeCalibration(sequences, files, weights);
}

/** Sentences about the rows of files that were left out, for the end of a run. */
export const calibrationWarnings = (files: readonly CalibrationFile[]): string[] =>
  leftOutWarnings(files.map(({ path: file, leftOut }) => ({ file, ...(leftOut && { leftOut }) })));
