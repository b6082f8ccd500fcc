import { checkDataFile, endingOf } from '../files/rows.js';
import { invalidData } from '../files/textFiles.js';
import { type DocumentOptions, documentEndings, readDocuments } from './documents.js';
import { type EncodedDocument, encodeDocuments } from './encodeDocuments.js';
import { encodeInParts } from './encodeInParts.js';
import { LeftOutCount, type LeftOutRows } from './leftOut.js';
import { readPlainText } from './plainText.js';
import type { TextReader } from './textReader.js';
import type { Tokenizer } from './tokenizer.js';
import { packSequences, type SequenceOptions } from './tokenSequences.js';

/** Settings of `fileSequences`. */
export interface FileOptions
  extends Omit<SequenceOptions, 'shortest'>,
    Pick<DocumentOptions, 'textField' | 'skipInvalid'> {
  /** Documents to leave out at the beginning; a .txt file is then one of documents (default: none, and it is one text). */
  readonly skip?: number | undefined;
}

/** The token sequences of a file to measure on. */
export interface FileSequences {
  readonly sequences: readonly (readonly number[])[];
  /** Texts that were joined by empty lines; 1 for a .txt file, which is measured as it is. */
  readonly texts: number;
  readonly leftOut?: LeftOutRows;
}

/** A .txt file as one text. @throws RmError DATA_INVALID where it is nothing but white space. */
async function* wholeText(path: string, tokenizer: Tokenizer): AsyncGenerator<EncodedDocument> {
  await checkDataFile(path, documentEndings);
  let blank = true;
  const parts = async function* () {
    for await (const part of readPlainText(path)) {
      blank &&= part.trim() === '';
      yield part;
    }
  };
  let continues = false;
  for await (const ids of encodeInParts(parts(), tokenizer)) {
    yield { ids, isChat: false, continues };
    continues = true;
  }
  if (blank) throw invalidData(`${path}: holds no document`, 'Give a file with texts or conversations.');
}

/** A sequence of one token predicts nothing. */
const predicting = (sequences: readonly number[][]): number[][] =>
  sequences.filter(({ length }) => length > 1);

/**
 * Reads a file to measure on as token sequences: a .txt file as it is, byte for byte, the texts of other files joined by
 * empty lines, and each conversation in a sequence of its own.
 *
 * @throws RmError DATA_INVALID as readDocuments.
 */
export async function fileSequences(
  path: string,
  { tokenizer, chat }: TextReader,
  { textField, skipInvalid, skip, ...lengths }: FileOptions,
): Promise<FileSequences> {
  // All of a text is measured, to its last token.
  const options = { ...lengths, shortest: 1 };
  if (endingOf(path) === '.txt' && skip === undefined) {
    const sequences = await packSequences(wholeText(path, tokenizer), tokenizer, options);
    return { sequences: predicting(sequences), texts: 1 };
  }
  const leftOut = new LeftOutCount();
  const leaving = { skipInvalid, onLeftOut: leftOut.add };
  const documents = readDocuments(path, { textField, ...leaving });
  let taken = 0;
  let texts = 0;
  const counted = async function* () {
    const { tokens } = options;
    for await (const document of encodeDocuments(documents, tokenizer, chat, { ...leaving, tokens })) {
      if (taken++ < (skip ?? 0)) continue;
      if (!document.isChat) texts++;
      yield document;
    }
  };
  const sequences = await packSequences(counted(), tokenizer, options);
  return { sequences: predicting(sequences), texts, ...(leftOut.rows && { leftOut: leftOut.rows }) };
}
