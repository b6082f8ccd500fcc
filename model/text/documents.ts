import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { isRecord } from '../files/jsonFile.js';
import { readParquetRows } from '../files/parquetRows.js';
import { invalidData, parseJson, readJsonArray, readLines } from '../files/textFiles.js';

/** One turn of a conversation, in the form that chat templates take. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** One independent text: plain text, or a conversation to be rendered by a chat template. */
export type Document = { readonly text: string } | { readonly messages: readonly ChatMessage[] };

/** Settings of `readDocuments`. */
export interface DocumentOptions {
  /** Field (jsonl, json) or column (parquet) with the text or messages (default: messages, conversations or text). */
  readonly textField?: string;
}

/** Fields tried when the caller names none; the first match wins. */
const defaultFields = ['messages', 'conversations', 'text'] as const;

const shareGptRoles: Readonly<Record<string, string>> = {
  ...{ human: 'user', user: 'user', system: 'system' },
  ...{ gpt: 'assistant', chatgpt: 'assistant', assistant: 'assistant', bing: 'assistant', bard: 'assistant' },
};

function toMessage(turn: unknown, where: string): ChatMessage {
  const fix = 'A turn is {"role", "content"} or, in ShareGPT files, {"from", "value"}, all strings.';
  if (!isRecord(turn)) throw invalidData(`${where}: a turn is ${JSON.stringify(turn)}`, fix);
  const content = turn.content ?? turn.value;
  if (typeof content !== 'string') {
    throw invalidData(
      `${where}: a turn has no text in "content" or "value": ${JSON.stringify(turn).slice(0, 80)}`,
      fix,
    );
  }
  if (typeof turn.role === 'string') return { role: turn.role, content };
  const role = typeof turn.from === 'string' ? shareGptRoles[turn.from] : undefined;
  if (!role) {
    const author = JSON.stringify(turn.role ?? turn.from);
    throw invalidData(
      `${where}: a turn has the unknown author ${author}`,
      `${fix} Known in "from": ${Object.keys(shareGptRoles).join(', ')}.`,
    );
  }
  return { role, content };
}

function fieldOf(names: readonly string[], textField: string | undefined, where: string): string {
  const field = textField ?? defaultFields.find(name => names.includes(name));
  if (field === undefined || !names.includes(field)) {
    throw invalidData(
      `${where}: has no field ${textField === undefined ? '"messages", "conversations" or "text"' : `"${textField}"`}`,
      names.length > 0
        ? `Name one of its fields as \`textField\`: ${names.join(', ')}.`
        : 'Give each document a field "text" or "messages".',
    );
  }
  return field;
}

/** Returns undefined for an empty document; data sets contain some, and they teach nothing. */
function toDocument(value: unknown, where: string): Document | undefined {
  if (typeof value === 'string') return value === '' ? undefined : { text: value };
  if (Array.isArray(value)) {
    return value.length === 0 ? undefined : { messages: value.map(turn => toMessage(turn, where)) };
  }
  throw invalidData(
    `${where}: is ${JSON.stringify(value)?.slice(0, 80)}, neither a text nor a list of turns`,
    'Use a field that holds a string or a list of messages.',
  );
}

function recordToDocument(
  value: unknown,
  where: string,
  { textField }: DocumentOptions,
): Document | undefined {
  if (typeof value === 'string' && textField === undefined) return toDocument(value, where);
  if (!isRecord(value)) {
    const fix = 'Each document should be an object with a field "text" or "messages".';
    throw invalidData(`${where}: ${JSON.stringify(value).slice(0, 80)} is not a document`, fix);
  }
  const field = fieldOf(Object.keys(value), textField, where);
  return toDocument(value[field], `${where}: "${field}"`);
}

/** Reads documents separated by blank lines. */
async function* readText(path: string): AsyncGenerator<Document | undefined> {
  let lines: string[] = [];
  for await (const { value: line } of readLines(path)) {
    if (line.trim() !== '') lines.push(line);
    else if (lines.length > 0) {
      yield { text: lines.join('\n') };
      lines = [];
    }
  }
  if (lines.length > 0) yield { text: lines.join('\n') };
}

async function* readJsonLines(path: string, options: DocumentOptions): AsyncGenerator<Document | undefined> {
  for await (const { value, line } of readLines(path)) {
    if (value.trim() !== '') yield recordToDocument(parseJson(value, path, line), `${path}:${line}`, options);
  }
}

async function* readJson(path: string, options: DocumentOptions): AsyncGenerator<Document | undefined> {
  for await (const { value, line } of readJsonArray(path)) {
    yield recordToDocument(value, `${path}:${line}`, options);
  }
}

async function* readParquet(
  path: string,
  { textField }: DocumentOptions,
): AsyncGenerator<Document | undefined> {
  let field = '';
  const choose = (columns: string[]) => {
    field = fieldOf(columns, textField, path);
    return [field];
  };
  for await (const { row, index } of readParquetRows(path, choose)) {
    yield toDocument(row[field] ?? '', `${path}: row ${index}: "${field}"`);
  }
}

const readers: Readonly<
  Record<string, (path: string, options: DocumentOptions) => AsyncGenerator<Document | undefined>>
> = {
  '.txt': readText,
  '.jsonl': readJsonLines,
  '.ndjson': readJsonLines,
  '.json': readJson,
  '.parquet': readParquet,
};

/**
 * Reads the documents of a file lazily, in order: .txt (documents separated by blank lines), .jsonl (one object per
 * line), .json (an array of objects) or .parquet. Objects and rows hold `messages`, ShareGPT `conversations` or `text`.
 * Empty documents are skipped.
 *
 * @throws RmError DATA_INVALID naming file and line (or row) if the file is unreadable, is not JSON, lacks the field or
 *   holds no document.
 */
export async function* readDocuments(path: string, options: DocumentOptions = {}): AsyncGenerator<Document> {
  const reader = readers[extname(path).toLowerCase()];
  if (!reader) {
    const fix = `Known endings: ${Object.keys(readers).join(', ')}.`;
    throw invalidData(`${path}: unknown kind of text file`, fix);
  }
  const file = await stat(path).catch(() => undefined);
  if (!file?.isFile()) {
    throw invalidData(
      `${path}: ${file ? 'is not a file' : 'no such file'}`,
      'Check the path of the text file.',
    );
  }
  if (file.size === 0)
    throw invalidData(`${path}: the file is empty`, 'Give a file with texts or conversations.');
  let documents = 0;
  for await (const document of reader(path, options)) {
    if (!document) continue;
    documents++;
    yield document;
  }
  if (documents === 0)
    throw invalidData(`${path}: holds no document`, 'Give a file with texts or conversations.');
}
