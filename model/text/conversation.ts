import { isRecord } from '../files/jsonFile.js';
import { parseMarkedJson } from '../files/pythonJson.js';
import { invalidData } from '../files/textFiles.js';

/**
 * One turn of a conversation, with all that its row says: `content` (a text, a list of parts, or null beside tool calls),
 * `tool_calls`, `reasoning_content`, `name` and other fields that chat templates read.
 */
export interface ChatMessage {
  readonly role: string;
  readonly content?: string | readonly unknown[] | null;
  readonly [field: string]: unknown;
}

/** A conversation, and what else a chat template is given with it. */
export interface Conversation {
  readonly messages: readonly ChatMessage[];
  /** Descriptions of tools that the model may call. */
  readonly tools?: readonly unknown[];
  /** Documents that the model may refer to. */
  readonly documents?: readonly unknown[];
}

const shareGptRoles: Readonly<Record<string, string>> = {
  ...{ human: 'user', user: 'user', system: 'system', tool: 'tool' },
  ...{ gpt: 'assistant', chatgpt: 'assistant', assistant: 'assistant', bing: 'assistant', bard: 'assistant' },
};

const turnForm = 'A turn is {"role", "content"} or, in ShareGPT files, {"from", "value"}.';

const shown = (value: unknown): string => String(JSON.stringify(value)).slice(0, 80);

/** Null, and texts, lists and objects without content, say nothing. */
export const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === '' ||
  (Array.isArray(value) && value.length === 0) ||
  (isRecord(value) && Object.values(value).every(isEmpty));

function roleOf({ role, from }: Record<string, unknown>, where: string): string {
  if (typeof role === 'string') return role;
  const known =
    typeof from === 'string' && Object.hasOwn(shareGptRoles, from) ? shareGptRoles[from] : undefined;
  if (known) return known;
  throw invalidData(
    `${where}: a turn has the unknown author ${JSON.stringify(role ?? from)}`,
    `${turnForm} Known in "from": ${Object.keys(shareGptRoles).join(', ')}.`,
  );
}

/** Kinds of content that only models for them can read. */
const media = /image|video|audio|file/;

function toMessage(turn: unknown, where: string): ChatMessage {
  if (!isRecord(turn)) throw invalidData(`${where}: a turn is ${shown(turn)}`, turnForm);
  const shareGpt = typeof turn.role !== 'string';
  const { role: _role, from, value, content = value, ...others } = turn;
  const role = roleOf(turn, where);
  if (Array.isArray(content)) {
    const other = content.find(part => isRecord(part) && media.test(String(part.type ?? 'text')));
    if (other) {
      throw invalidData(
        `${where}: a turn has ${shown(other)}`,
        'Only text can be used: leave such rows out.',
      );
    }
  } else if (content === undefined || content === null) {
    if (Object.values(others).every(isEmpty)) {
      throw invalidData(`${where}: a turn has no text in "content" or "value": ${shown(turn)}`, turnForm);
    }
  } else if (typeof content !== 'string') {
    throw invalidData(`${where}: a turn has no text in "content" or "value": ${shown(turn)}`, turnForm);
  }
  return shareGpt
    ? { role, ...(content !== undefined && { content }), ...others }
    : ({ ...turn, role } as ChatMessage);
}

/** A JSON text as its value; undefined where it is none. Numbers keep their spelling, as in the row around it. */
function parsed(text: string): unknown {
  try {
    return parseMarkedJson(text);
  } catch {
    return undefined;
  }
}

/** Lists by field, as `datasets` stores a list of objects, as that list; any other value unchanged. */
function transposed(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const columns = Object.entries(value).filter(([, column]) => Array.isArray(column)) as [
    string,
    unknown[],
  ][];
  const rows = columns[0]?.[1].length ?? 0;
  if (columns.length !== Object.keys(value).length) return value;
  if (columns.some(([, column]) => column.length !== rows)) return value;
  return Array.from({ length: rows }, (_, i) =>
    Object.fromEntries(columns.map(([name, column]) => [name, column[i]])),
  );
}

const isTurn = (value: unknown): boolean =>
  isRecord(value) && (('role' in value && ('content' in value || 'tool_calls' in value)) || 'from' in value);

/**
 * The turns that a field holds: a list, a JSON text of one, or lists by field; undefined where it holds something else.
 *
 * @param expected whether any list is one of turns, so that what is wrong in it gets named.
 */
export function turnsIn(value: unknown, expected: boolean): readonly unknown[] | undefined {
  const list = transposed(typeof value === 'string' ? parsed(value) : value);
  if (!Array.isArray(list)) return undefined;
  const turns = list.map(turn => (typeof turn === 'string' ? (parsed(turn) ?? turn) : turn));
  return expected || turns.every(isTurn) ? turns : undefined;
}

/** A list of objects beside the turns, also as JSON text. */
function listBeside(row: Record<string, unknown>, field: 'tools' | 'documents', where: string) {
  const value = row[field];
  if (value === undefined || value === null || value === '') return {};
  const list = typeof value === 'string' ? parsed(value) : value;
  if (Array.isArray(list) && list.every(isRecord)) return { [field]: list };
  // Other data sets have texts of their own under this name.
  if (field === 'documents') return {};
  throw invalidData(
    `${where}: "${field}" is ${shown(value)}`,
    'It should be a list of objects, also as JSON text.',
  );
}

/** The turns, after the system prompt that stands beside them. */
function withSystem(messages: readonly ChatMessage[], { system }: Record<string, unknown>, where: string) {
  if (typeof system !== 'string' || system === '') return messages;
  const first = messages[0];
  if (first?.role !== 'system') return [{ role: 'system', content: system }, ...messages];
  if (first.content === system) return messages;
  throw invalidData(`${where}: "system" differs from the system turn`, 'Keep one of the two.');
}

/**
 * Makes a conversation of a row's turns, and of `system`, `tools` and `documents` beside them.
 *
 * @throws RmError DATA_INVALID naming the place in the data, for turns that no template could render.
 */
export function toConversation(
  turns: readonly unknown[],
  row: Record<string, unknown>,
  where: string,
): Conversation {
  const messages = turns.map(turn => toMessage(turn, where));
  return {
    messages: withSystem(messages, row, where),
    ...listBeside(row, 'tools', where),
    ...listBeside(row, 'documents', where),
  };
}
