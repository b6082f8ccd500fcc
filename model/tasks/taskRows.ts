import { entryOf } from '../../engine/index.js';
import { isRecord } from '../files/jsonFile.js';
import { parseMarkedJson } from '../files/pythonJson.js';
import { checkDataFile, endingOf, parseRow, readRows, rowEndings } from '../files/rows.js';
import { invalidData } from '../files/textFiles.js';
import type { Task } from './taskFile.js';
import { deriveFields, type Outcome } from './templates.js';

/** One row of a data set. */
export interface TaskRow {
  readonly values: Readonly<Record<string, unknown>>;
  /** The same for templates, with numbers as they are spelled in the file. */
  readonly exact: Readonly<Record<string, unknown>>;
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
    const values = parseRow(row);
    if (!isRecord(values)) {
      throw invalidData(`${where}: is not an object with fields`, 'Every row should be an object.');
    }
    rows.push({ values, exact: parseRow(row, parseMarkedJson) as TaskRow['exact'], where });
  }
  if (rows.length === 0) throw invalidData(`${path}: holds no row`, 'Give a file with rows.');
  if (task.fields.length === 0) return rows;
  const derived = await deriveFields(
    task.path,
    rows.map(({ exact }) => exact),
    task.fields,
  );
  return rows.map((row, i) => {
    const fields = Object.fromEntries(
      Object.entries(derived[i]!).map(([name, outcome]) => [
        name,
        fieldValue(outcome, task, `fields.${name}`, row),
      ]),
    );
    return { ...row, values: { ...row.values, ...fields }, exact: { ...row.exact, ...fields } };
  });
}

/** What a template of the task gave for a row. @throws RmError DATA_INVALID naming file, line and field. */
export function fieldValue(outcome: Outcome, task: Task, field: string, { where, values }: TaskRow): unknown {
  if ('value' in outcome) return outcome.value;
  throw invalidData(
    `${where}: "${field}" of task ${task.name}: ${outcome.error}`,
    `The row has: ${Object.keys(values).join(', ')}. Compare it with the templates in ${task.path}.`,
  );
}

/** The group of a row, whose results are told apart; undefined in a task without groups. @throws RmError DATA_INVALID. */
export function groupOf(task: Task, { values, where }: TaskRow): string | undefined {
  if (task.groupBy === undefined) return undefined;
  const group = entryOf(values, task.groupBy);
  if (typeof group === 'string' || typeof group === 'number') return String(group);
  throw invalidData(
    `${where}: lacks the field "${task.groupBy}", by which task ${task.name} groups its rows`,
    'Add the field to every row, or remove group_by from the task file.',
  );
}
