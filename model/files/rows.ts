import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { reasonOf } from '../../engine/index.js';
import { readJsonElements } from './jsonElements.js';
import { notTheFile } from './notTheFile.js';
import { readParquetRows } from './parquetRows.js';
import { parsePythonJson } from './pythonJson.js';
import { decode, fileChunks, invalidData, linesOf } from './textFiles.js';

/** A row of a data set: JSON that nobody has looked at yet. */
export interface Row {
  readonly bytes: Uint8Array;
  /** File and line (or row), for messages. */
  readonly where: string;
}

type Columns = { readonly wanted?: readonly string[]; readonly check?: (columns: readonly string[]) => void };

const isBlank = (bytes: Uint8Array): boolean => bytes.every(byte => byte === 32 || (byte >= 9 && byte <= 13));

async function* jsonLines(path: string): AsyncGenerator<Row> {
  for await (const { value, line } of linesOf(fileChunks(path), path)) {
    if (!isBlank(value)) yield { bytes: value, where: `${path}:${line}` };
  }
}

async function* jsonElements(path: string): AsyncGenerator<Row> {
  for await (const { value, line } of readJsonElements(path)) {
    yield { bytes: value, where: `${path}:${line}` };
  }
}

async function* parquet(path: string, { wanted, check }: Columns): AsyncGenerator<Row> {
  for await (const { bytes, index } of readParquetRows(path, wanted, check)) {
    yield { bytes, where: `${path}: row ${index}` };
  }
}

const readers: Readonly<Record<string, (path: string, columns: Columns) => AsyncGenerator<Row>>> = {
  '.jsonl': jsonLines,
  '.ndjson': jsonLines,
  '.json': jsonElements,
  '.parquet': parquet,
};

/** Endings of the files that `readRows` reads. */
export const rowEndings: readonly string[] = Object.keys(readers);

export const endingOf = (path: string): string => extname(path).toLowerCase();

/** What to do with a file of another kind. */
function otherKind(path: string, endings: readonly string[]): string {
  const ending = endingOf(path);
  const unpacking: Readonly<Record<string, string>> = {
    ...{ '.gz': 'gzip -dk', '.zst': 'zstd -d', '.xz': 'xz -dk', '.bz2': 'bzip2 -dk', '.zip': 'unzip' },
  };
  const unpack = unpacking[ending];
  if (unpack) return `Unpack it first: ${unpack} ${path.split(/[\\/]/).at(-1)}`;
  if (ending === '.csv' || ending === '.tsv' || ending === '.arrow') {
    return 'Convert it to .jsonl or .parquet, a row for each text.';
  }
  return `Known endings: ${endings.join(', ')}.${endings.includes('.txt') ? ' Rename a plain text to .txt.' : ''}`;
}

/** What a file begins with that is no data, whatever its ending says. */
function otherContent(path: string, beginning: Uint8Array): void {
  const [first, second] = beginning;
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff)) {
    throw invalidData(`${path}: is UTF-16 text`, 'Save the file as UTF-8.');
  }
  const other = notTheFile(Buffer.from(beginning).toString('latin1'));
  if (other) throw invalidData(`${path}: ${other.problem}`, other.fix);
  if (Buffer.from(beginning.subarray(0, 4)).toString('latin1') === 'PAR1' && endingOf(path) !== '.parquet') {
    throw invalidData(`${path}: is a parquet file`, 'Rename it to end in .parquet.');
  }
}

/**
 * Makes sure that a file is there, has one of the endings, and does not begin like something else.
 *
 * @throws RmError DATA_INVALID saying what it is, and what to do.
 */
export async function checkDataFile(path: string, endings: readonly string[]): Promise<void> {
  const file = await stat(path).catch(() => undefined);
  if (!file?.isFile()) {
    throw invalidData(`${path}: ${file ? 'is not a file' : 'no such file'}`, 'Check the path of the file.');
  }
  if (!endings.includes(endingOf(path))) {
    throw invalidData(`${path}: unknown kind of data file`, otherKind(path, endings));
  }
  if (file.size === 0) {
    throw invalidData(`${path}: the file is empty`, 'Give a file with texts or conversations.');
  }
  for await (const chunk of fileChunks(path, 199)) {
    otherContent(path, chunk);
    break;
  }
}

/** Reads the rows of a .jsonl, .json or .parquet file lazily, in order; of a parquet file only the wanted columns. */
export const readRows = (path: string, columns: Columns = {}): AsyncGenerator<Row> =>
  readers[endingOf(path)]!(path, columns);

/** Parses a row, by default as Python's json module does. @throws RmError DATA_INVALID. */
export function parseRow({ bytes, where }: Row, parse: (text: string) => unknown = parsePythonJson): unknown {
  const text = decode(bytes, where);
  try {
    return parse(text);
  } catch (error) {
    const message = `${where}: not JSON: ${reasonOf(error)}`;
    throw invalidData(message, 'Correct or remove that place in the file.', error);
  }
}
