import { isRecord } from '../files/jsonFile.js';
import { checkDataFile, endingOf, parseRow, readRows, rowEndings } from '../files/rows.js';
import { invalidData } from '../files/textFiles.js';
import type { Task } from './taskFile.js';

/** One row of a data set. */
export interface TaskRow {
  readonly values: Readonly<Record<string, unknown>>;
  /** File and line (or row), for messages. */
  readonly where: string;
}

/** Whether a path's ending is one of those that rows can have. */
export const isRowsFile = (path: string): boolean => rowEndings.includes(endingOf(path));

/**
 * Reads the rows of a data set, .jsonl, .json (one array) or .parquet, and adds the task's derived fields.
 *
 * @throws RmError DATA_INVALID naming file and line if the file is unreadable, holds no rows or rows that are not objects,
 *   or if a derived field fails.
 */
export async function readTaskRows(task: Task, path: string): Promise<TaskRow[]> {
  await checkDataFile(path, rowEndings);
  const rows: TaskRow[] = [];
  for await (const row of readRows(path)) {
    const { where } = row;
    const value = parseRow(row);
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
