import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { isRecord } from '../files/jsonFile.js';
import { readParquetRows } from '../files/parquetRows.js';
import { invalidData, parseJson, readJsonArray, readLines } from '../files/textFiles.js';

/** One turn of a conversation, as chat templates take it. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** One independent text: plain, or a conversation that still has to go through a chat template. */
export type Document = { readonly text: string } | { readonly messages: readonly ChatMessage[] };

/** How a text file is read. */
export interface DocumentOptions {
  /** The field (jsonl, json) or column (parquet) that holds the text or the messages, where it has another name. */
  readonly textField?: string;
}

/** Where documents are looked for when no field is named, first match wins. */
const knownFields = ['messages', 'conversations', 'text'] as const;

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
    const said = JSON.stringify(turn.role ?? turn.from);
    throw invalidData(
      `${where}: a turn is by ${said}`,
      `${fix} Known in "from": ${Object.keys(shareGptRoles).join(', ')}.`,
    );
  }
  return { role, content };
}

function fieldOf(names: readonly string[], textField: string | undefined, where: string): string {
  const field = textField ?? knownFields.find(name => names.includes(name));
  if (field === undefined || !names.includes(field)) {
    throw invalidData(
      `${where}: has no field ${textField === undefined ? '"messages", "conversations" or "text"' : `"${textField}"`}`,
      names.length > 0
        ? `Name one of its fields with --text-field: ${names.join(', ')}.`
        : 'Give each document a field "text" or "messages".',
    );
  }
  return field;
}

/** Undefined for an empty document: data sets contain some, and there is nothing to learn from them. */
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
    throw invalidData(`${where}: ${JSON.stringify(value).slice(0, 80)} is no document`, fix);
  }
  const field = fieldOf(Object.keys(value), textField, where);
  return toDocument(value[field], `${where}: "${field}"`);
}

/** Paragraph blocks: a line that is empty or only white space ends a document. */
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
 * The documents of a file, in order, read as they are asked for: .txt (documents separated by empty lines), .jsonl
 * (an object a line), .json (an array of objects) and .parquet. Objects and rows hold `messages`, ShareGPT
 * `conversations` or `text`. Empty documents are left out.
 * Throws DATA_INVALID naming file and line (or row): unreadable, no JSON, no such field, no document at all.
 */
export async function* readDocuments(path: string, options: DocumentOptions = {}): AsyncGenerator<Document> {
  const reader = readers[extname(path).toLowerCase()];
  if (!reader) {
    const fix = `Known endings: ${Object.keys(readers).join(', ')}.`;
    throw invalidData(`${path}: unknown kind of text file`, fix);
  }
  const found = await stat(path).catch(() => undefined);
  if (!found?.isFile()) {
    throw invalidData(
      `${path}: ${found ? 'is not a file' : 'no such file'}`,
      'Check the path of the text file.',
    );
  }
  if (found.size === 0)
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
