import { readdir } from 'node:fs/promises';
import { ensure, RmError } from '../../engine/index.js';
import {
  type ChatTemplate,
  type Document,
  readDocuments,
  shippedPath,
  type Tokenizer,
  totalTokens,
} from '../../model/index.js';
import { sha256OfFile } from '../run/sha256.js';
import { type CalibrationSequence, collectSequences } from './collectSequences.js';
import { withMaskedCopies } from './maskedCopies.js';
import { readTaskTexts } from './taskTexts.js';

/** A calibration file and what was taken of it. */
export interface CalibrationFile {
  /** Of a file; otherwise a few words. */
  readonly path: string;
  /** Of the file's bytes; without a file, of its token ids. */
  readonly sha256: string;
  /** How much its tokens count, relative to those of the other files. */
  readonly weight: number;
  readonly tokens: number;
  /** Documents that were read of it, where it is a file of documents. */
  readonly documents?: number;
}

/** Token sequences to calibrate with, and the files they come from. */
export interface Calibration {
  /** Sources and halves mixed, so that any beginning is a fair sample. */
  readonly sequences: readonly CalibrationSequence[];
  readonly tokens: number;
  /** By source. */
  readonly files: readonly CalibrationFile[];
}

/** How much is read of calibration files, and how. */
export interface CalibrationOptions {
  /** .jsonl, .json, .txt or .parquet files; without them, the small set that ships with the package. */
  files?: readonly string[] | undefined;
  /** Tasks whose rows are calibration texts too: NAME=ROWS, and what else findTasks understands. */
  tasks?: readonly string[] | undefined;
  /** Tokens at most, of all files together; masked copies come on top. */
  tokens: number;
  sequenceLength: number;
  textField?: string | undefined;
  /** How much a token of each file counts in statistics (default 1 each). */
  weights?: readonly number[] | undefined;
  /** Share of tokens, between 0 and 1, that a copy of every sequence has replaced at random; default: no copies. */
  mask?: number | undefined;
  /** Of what is drawn at random (default 0). */
  seed?: number | undefined;
}

/** The calibration files that ship with the package; conversations only for models with a chat template. */
export async function shippedCalibration(chat: ChatTemplate): Promise<string[]> {
  const names = (await readdir(shippedPath('calibration'))).filter(name => name.endsWith('.jsonl')).sort();
  return names
    .filter(name => chat.available || !name.startsWith('conversations'))
    .map(name => shippedPath('calibration', name));
}

/**
 * The documents of the files asked for, then of the tasks, or of the files that ship with the package; `read` counts them
 * as they are read.
 */
export async function openSources(
  chat: ChatTemplate,
  { files = [], tasks = [], textField }: Pick<CalibrationOptions, 'files' | 'tasks' | 'textField'>,
): Promise<{ paths: readonly string[]; sources: AsyncGenerator<Document>[]; read: readonly number[] }> {
  const given = files.length + tasks.length > 0 ? files : await shippedCalibration(chat);
  const options = textField === undefined ? {} : { textField };
  const all: { path: string; documents: Iterable<Document> | AsyncIterable<Document> }[] = [
    ...given.map(path => ({ path, documents: readDocuments(path, options) })),
    ...(await readTaskTexts(tasks)),
  ];
  const read = all.map(() => 0);
  const sources = all.map(async function* ({ documents }, source) {
    for await (const document of documents) {
      read[source]!++;
      yield document;
    }
  });
  return { paths: all.map(({ path }) => path), sources, read };
}

/** Sequences with what they were read from, `read` documents of each path. Throws DATA_INVALID where there are none. */
export async function describeCalibration(
  sequences: readonly CalibrationSequence[],
  paths: readonly string[],
  read: readonly number[],
  weights: readonly number[] = paths.map(() => 1),
): Promise<Calibration> {
  if (sequences.length === 0) {
    throw new RmError(
      'DATA_INVALID',
      `${paths.join(', ')}: no calibration tokens`,
      'Give files with text or conversations.',
    );
  }
  const tokensOf = (of: readonly CalibrationSequence[]) => totalTokens(of.map(({ ids }) => ids));
  const files = paths.map(async (path, source) => ({
    path,
    sha256: await sha256OfFile(path),
    weight: weights[source]!,
    tokens: tokensOf(sequences.filter(sequence => sequence.source === source)),
    documents: read[source]!,
  }));
  return { sequences, tokens: tokensOf(sequences), files: await Promise.all(files) };
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
      'Give numbers above 0; leave out files that should not count.',
    );
  }
}

/**
 * Token sequences for calibration: plain text as it is, conversations through the model's own template; of every file
 * as many tokens as of another, in two halves by documents.
 *
 * @throws RmError DATA_INVALID when a file cannot be read or all of them hold no tokens; INVALID_ARGUMENT for weights or
 *   a mask that cannot be.
 */
export async function readCalibration(
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  { tokens, sequenceLength, weights, mask, seed = 0, ...from }: CalibrationOptions,
): Promise<Calibration> {
  const { paths, sources, read: documents } = await openSources(chat, from);
  if (weights) checkWeights(weights, paths.length);
  const read = await collectSequences(sources, tokenizer, chat, { sequenceLength, tokens });
  const sequences = mask === undefined ? read : withMaskedCopies(read, mask, seed);
  return describeCalibration(sequences, paths, documents, weights);
}
