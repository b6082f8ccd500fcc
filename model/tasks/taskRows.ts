import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { isRecord } from '../files/jsonFile.js';
import { readParquetRows } from '../files/parquetRows.js';
import { invalidData, parseJson, readJsonArray, readLines } from '../files/textFiles.js';
import type { Task } from './taskFile.js';

/** One row of a data set. */
export interface TaskRow {
  readonly values: Readonly<Record<string, unknown>>;
  /** File and line (or row), for messages. */
  readonly where: string;
}

async function* jsonLines(path: string): AsyncGenerator<{ value: unknown; where: string }> {
  for await (const { value, line } of readLines(path)) {
    if (value.trim() !== '') yield { value: parseJson(value, path, line), where: `${path}:${line}` };
  }
}

async function* jsonArray(path: string): AsyncGenerator<{ value: unknown; where: string }> {
  for await (const { value, line } of readJsonArray(path)) yield { value, where: `${path}:${line}` };
}

async function* parquet(path: string): AsyncGenerator<{ value: unknown; where: string }> {
  for await (const { row, index } of readParquetRows(path, columns => columns)) {
    yield { value: plain(row), where: `${path}: row ${index}` };
  }
}

/** Turns parquet's 64-bit integers into numbers. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (ArrayBuffer.isView(value)) return Array.from(value as never, plain);
  if (!isRecord(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

const readers: Readonly<Record<string, (path: string) => AsyncGenerator<{ value: unknown; where: string }>>> =
  { '.jsonl': jsonLines, '.ndjson': jsonLines, '.json': jsonArray, '.parquet': parquet };

/** Whether a path's ending is one of those that rows can have. */
export const isRowsFile = (path: string): boolean => extname(path).toLowerCase() in readers;

/**
 * Reads the rows of a data set, .jsonl, .json (one array) or .parquet, and adds the task's derived fields.
 *
 * @throws RmError DATA_INVALID naming file and line if the file is unreadable, holds no rows or rows that are not objects,
 *   or if a derived field fails.
 */
export async function readTaskRows(task: Task, path: string): Promise<TaskRow[]> {
  const reader = readers[extname(path).toLowerCase()];
  if (!reader) {
    throw invalidData(`${path}: unknown kind of file`, `Known endings: ${Object.keys(readers).join(', ')}.`);
  }
  if (!(await stat(path).catch(() => undefined))?.isFile()) {
    throw invalidData(`${path}: no such file`, `Check the path of the rows of task ${task.name}.`);
  }
  const rows: TaskRow[] = [];
  for await (const { value, where } of reader(path)) {
    if (!isRecord(value)) {
      throw invalidData(`${where}: is not an object with fields`, 'Every row should be an object.');
    }
    const values: Record<string, unknown> = { ...value };
    for (const [name, template] of task.fields) {
      values[name] = evaluated(() => template.value(values), task, `fields.${name}`, where, values);
    }
    rows.push({ values, where });
  }
  if (rows.length === 0) throw invalidData(`${path}: holds no row`, 'Give a file with rows.');
  return rows;
}

/** Evaluates a template of the task for a row. @throws RmError DATA_INVALID naming file, line and field. */
export function evaluated<T>(
  work: () => T,
  task: Task,
  field: string,
  where: string,
  values: Readonly<Record<string, unknown>>,
): T {
  try {
    return work();
  } catch (error) {
    throw invalidData(
      `${where}: "${field}" of task ${task.name}: ${(error as Error).message}`,
      `The row has: ${Object.keys(values).join(', ')}. Compare it with the templates in ${task.path}.`,
      error,
    );
  }
}
