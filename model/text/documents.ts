import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkArguments, flag, optional, RmError, text } from '../../engine/index.js';
import { aPath, maybeFunction, settingsAmong } from '../arguments/forms.js';
import { plainNumbers } from '../files/exactJson.js';
import { isRecord } from '../files/jsonFile.js';
import { parseMarkedJson } from '../files/pythonJson.js';
import { checkDataFile, endingOf, parseRow, type Row, readRows, rowEndings } from '../files/rows.js';
import { invalidData } from '../files/textFiles.js';
import { type Conversation, isEmpty, toConversation, turnsIn } from './conversation.js';
import { readParagraphs } from './plainText.js';

/** Where a document comes from, for messages. */
export interface DocumentPlace {
  /** File and line (or row). */
  readonly where?: string;
}

/** One independent text: plain text, or a conversation to be rendered by a chat template. */
export type Document = ({ readonly text: string } & DocumentPlace) | (Conversation & DocumentPlace);

/** A row that `readDocuments` leaves out. */
export interface LeftOut {
  readonly where: string;
  /** What is wrong with it; undefined where it holds no text. */
  readonly problem?: RmError;
}

/** Settings of `readDocuments`. */
export interface DocumentOptions {
  /** Field (jsonl, json) or column (parquet) with the text or messages (default: messages, conversations or text). */
  readonly textField?: string | undefined;
  /** Leave invalid rows out instead of refusing the file. */
  readonly skipInvalid?: boolean | undefined;
  /** Is told of each row that is left out, empty or invalid. */
  readonly onLeftOut?: ((row: LeftOut) => void) | undefined;
}

const documentSettings = settingsAmong<DocumentOptions>({
  textField: optional(text),
  skipInvalid: optional(flag),
  onLeftOut: maybeFunction,
});

/** Fields tried when the caller names none; the first that is not empty is used. */
const defaultFields = ['messages', 'conversations', 'text'] as const;

/** Fields that a chat template is given with the turns. */
const fieldsBeside = ['system', 'tools', 'documents'] as const;

/** @throws RmError DATA_INVALID where none of the names is a field with text. */
function checkFields(
  names: readonly string[],
  textField: string | undefined,
  where: string,
  row: Record<string, unknown> = {},
): void {
  const fields = textField === undefined ? defaultFields : [textField];
  if (fields.some(field => names.includes(field))) return;
  const rows = names.find(name => Array.isArray(row[name]) && (row[name] as unknown[]).every(isRecord));
  throw invalidData(
    `${where}: has no field ${textField === undefined ? '"messages", "conversations" or "text"' : `"${textField}"`}`,
    names.length > 0
      ? `Name one of its fields as \`textField\`: ${names.join(', ')}.${rows === undefined ? '' : ` Where "${rows}" holds the rows, save that list as the file.`}`
      : 'Give each document a field "text" or "messages".',
  );
}

/** @throws RmError DATA_INVALID for half a surrogate pair, which no tokenizer can read. */
export function wellFormed(text: string, where: string): string {
  const half = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.exec(text);
  if (!half) return text;
  const code = half[0].charCodeAt(0).toString(16);
  throw invalidData(
    `${where}: has \\u${code} alone, which is half a character`,
    'Correct or remove that row.',
  );
}

/** The text or the conversation of a field that is not empty. */
function fromField(field: string, row: Record<string, unknown>, where: string): Document {
  const value = row[field];
  const place = `${where}: "${field}"`;
  const holdsTurns = field === 'messages' || field === 'conversations';
  const turns = field === 'text' && typeof value === 'string' ? undefined : turnsIn(value, holdsTurns);
  if (turns) return { ...toConversation(turns, row, place), where };
  if (typeof value === 'string' && !holdsTurns) return { text: wellFormed(value, place), where };
  throw invalidData(
    `${place}: is ${String(JSON.stringify(plainNumbers(value))).slice(0, 80)}, ${holdsTurns ? 'no list of turns' : 'neither a text nor a list of turns'}`,
    'Name a field that holds a text or a list of messages as `textField`.',
  );
}

/** Returns undefined for a row without text; data sets contain some, and they teach nothing. */
function toDocument(row: Row, { textField }: DocumentOptions): Document | undefined {
  const { where } = row;
  const value = parseRow(row);
  if (typeof value === 'string' && textField === undefined) {
    return value === '' ? undefined : { text: wellFormed(value, where), where };
  }
  if (!isRecord(value)) {
    const fix = 'Each document should be an object with a field "text" or "messages".';
    throw invalidData(`${where}: ${JSON.stringify(value).slice(0, 80)} is not a document`, fix);
  }
  checkFields(Object.keys(value), textField, where, value);
  const fields = textField === undefined ? defaultFields : [textField];
  const field = fields.find(name => !isEmpty(value[name]) && (name === 'text' || value[name] !== '[]'));
  if (field === undefined) return undefined;
  // Templates print numbers as Python spells them.
  const exact = field === 'text' ? value : (parseRow(row, parseMarkedJson) as Record<string, unknown>);
  return fromField(field, exact, where);
}

/**
 * Leaves out a row that cannot be used, where the caller asks for it; other errors are thrown.
 *
 * @throws RmError with a fix that names the setting.
 */
export function leaveOut(
  where: string,
  error: unknown,
  { skipInvalid = false, onLeftOut }: Pick<DocumentOptions, 'skipInvalid' | 'onLeftOut'>,
): void {
  if (!(error instanceof RmError) || error.code !== 'DATA_INVALID') throw error;
  if (skipInvalid) onLeftOut?.({ where, problem: error });
  else {
    const fix = `${error.fix} Or leave such rows out: \`skipInvalid\`.`;
    throw new RmError(error.code, error.message, fix, { cause: error });
  }
}

async function* readRowDocuments(path: string, options: DocumentOptions): AsyncGenerator<Document> {
  const { textField, onLeftOut } = options;
  const rows = readRows(path, {
    wanted: textField === undefined ? [...defaultFields, ...fieldsBeside] : [textField, ...fieldsBeside],
    check: columns => checkFields(columns, textField, path),
  });
  for await (const row of rows) {
    try {
      const document = toDocument(row, options);
      if (document) yield document;
      else onLeftOut?.({ where: row.where });
    } catch (error) {
      leaveOut(row.where, error, options);
    }
  }
}

const readers: Readonly<
  Record<string, (path: string, options: DocumentOptions) => AsyncGenerator<Document>>
> = { '.txt': readParagraphs, ...Object.fromEntries(rowEndings.map(ending => [ending, readRowDocuments])) };

/** Endings of the files that `readDocuments` reads. */
export const documentEndings: readonly string[] = Object.keys(readers);

/** Those who read compute tokens without a break: signals and timers get their turn this often. */
const TURN_MS = 50;

/**
 * Reads the documents of a file lazily, in order: .txt (documents separated by empty lines), .jsonl (one object per
 * line), .json (a list of objects, or one object after the other) or .parquet. Of `messages`, ShareGPT `conversations` and
 * `text` an object gives the first that is not empty; `tools`, `documents` and `system` beside turns belong to them. Rows
 * without text are left out.
 *
 * @throws RmError DATA_INVALID naming file and line (or row) if the file is unreadable, has a row that cannot be used, or
 *   holds no document.
 */
export async function* readDocuments(path: string, options: DocumentOptions = {}): AsyncGenerator<Document> {
  checkArguments('readDocuments', { path, options }, { path: aPath, options: documentSettings });
  await checkDataFile(path, documentEndings);
  let documents = 0;
  let turned = performance.now();
  let invalid: RmError | undefined;
  const onLeftOut = (row: LeftOut) => {
    invalid ??= row.problem;
    options.onLeftOut?.(row);
  };
  for await (const document of readers[endingOf(path)]!(path, { ...options, onLeftOut })) {
    documents++;
    yield document;
    if (performance.now() - turned < TURN_MS) continue;
    await nextTurn();
    turned = performance.now();
  }
  if (documents > 0) return;
  throw invalidData(
    `${path}: holds no document${invalid ? `; what was left out: ${invalid.message}` : ''}`,
    invalid?.fix ?? 'Give a file with texts or conversations.',
  );
}
