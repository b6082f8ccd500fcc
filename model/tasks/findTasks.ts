import { readdir, stat } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import {
  checkArguments,
  didYouMean,
  listOf,
  optional,
  RmError,
  reasonOf,
  text,
  whole,
} from '../../engine/index.js';
import { maybeFunction, settingsAmong } from '../arguments/forms.js';
import { shippedPath } from '../files/shippedPath.js';
import { type DatasetSplit, findRows } from '../hub/datasetRows.js';
import type { TaskSource } from './prepareTask.js';
import { readTaskFile, type Task } from './taskFile.js';
import { isRowsFile } from './taskRows.js';

const isTaskFile = (path: string): boolean => /^\.ya?ml$/i.test(extname(path));

/** Lists the tasks that ship with the package. */
export async function builtInTasks(): Promise<string[]> {
  const files = await readdir(shippedPath('tasks')).catch(() => []);
  return files
    .filter(isTaskFile)
    .map(file => basename(file, extname(file)))
    .sort();
}

/** Finds the longest name of a built-in task at the beginning of a file name, and the rest after it. */
function taskOfName(path: string, names: readonly string[]): { name: string; rest: string } | undefined {
  const stem = basename(path, extname(path)).toLowerCase().replaceAll('-', '_');
  const [name] = names
    .filter(candidate => stem.startsWith(candidate) && !/^[a-z0-9]/.test(stem.slice(candidate.length)))
    .sort((a, b) => b.length - a.length);
  return name === undefined ? undefined : { name, rest: stem.slice(name.length + 1) };
}

const builtInFile = (name: string): string => shippedPath('tasks', `${name}.yaml`);

/** How `findTasks` gets rows that are on the hub and not here. */
export interface FindOptions {
  /** Downloads rows and returns their file; without it a task's rows must be given, or be in the Hugging Face cache. */
  readonly download?: ((rows: DatasetSplit) => Promise<string>) | undefined;
  /** Few-shot examples before every row (default: as each task says), whose own rows are then needed as well. */
  readonly fewshot?: number | undefined;
}

/**
 * Resolves words to tasks: NAME (a built-in task, its rows on the Hugging Face hub), NAME=ROWS (a built-in task or a task
 * file, and its rows), a task file, a file of rows whose name begins with a built-in task's, or a folder of such files. In a folder, rows called NAME_fewshot, NAME_dev or NAME_train
 * are the few-shot examples of the others.
 *
 * @throws RmError INVALID_ARGUMENT for a word that matches no task, CONFIG_INVALID for an invalid task file.
 */
export async function findTasks(words: readonly string[], options: FindOptions = {}): Promise<TaskSource[]> {
  checkArguments(
    'findTasks',
    { words, options },
    {
      words: listOf(text),
      options: settingsAmong<FindOptions>({ download: maybeFunction, fewshot: optional(whole()) }),
    },
  );
  const names = await builtInTasks();
  const sources: TaskSource[] = [];
  for (const word of words) sources.push(...(await tasksOfWord(word, names, options)));
  return sources;
}

async function tasksOfWord(
  word: string,
  names: readonly string[],
  options: FindOptions,
): Promise<TaskSource[]> {
  const fix = `Built-in tasks: ${names.join(', ')}.`;
  const equals = word.indexOf('=');
  if (equals > 0) {
    const [name, rows] = [word.slice(0, equals), word.slice(equals + 1)];
    if (isTaskFile(name)) return [{ task: await readTaskFile(name), rows }];
    if (names.includes(name)) return [{ task: await readTaskFile(builtInFile(name)), rows }];
    throw new RmError(
      'INVALID_ARGUMENT',
      `${word}: there is no task "${name}"`,
      didYouMean(name, names) + fix,
    );
  }
  const stats = await stat(word).catch(() => undefined);
  if (stats?.isDirectory()) return tasksOfFolder(word, names);
  if (isTaskFile(word)) return [await withHubRows(await readTaskFile(word), options)];
  if (names.includes(word)) return [await withHubRows(await readTaskFile(builtInFile(word)), options)];
  if (!stats)
    throw new RmError(
      'INVALID_ARGUMENT',
      `${word}: no such file, folder or task`,
      didYouMean(word, names) + fix,
    );
  const match = isRowsFile(word) ? taskOfName(word, names) : undefined;
  if (match) return [{ task: await readTaskFile(builtInFile(match.name)), rows: word }];
  throw new RmError(
    'INVALID_ARGUMENT',
    `${word}: its name does not begin with the name of a task`,
    `Write TASK=${word}. ${fix}`,
  );
}

/** A task with its rows, where it names no file, from the cache or the hub. @throws RmError INVALID_ARGUMENT. */
async function withHubRows(
  task: Task,
  { download, fewshot = task.fewshot }: FindOptions,
): Promise<TaskSource> {
  if (task.rows !== undefined) return { task };
  const fileOf = async (rows: DatasetSplit) => (await findRows(rows)) ?? (await download?.(rows));
  const rows = task.hubRows && (await fileOf(task.hubRows));
  if (rows === undefined) {
    const place = task.dataset === undefined ? '' : ` (${task.dataset})`;
    throw new RmError(
      'INVALID_ARGUMENT',
      `task ${task.name} needs its rows${task.hubRows ? ', which are not in the Hugging Face cache' : ''}`,
      `${task.hubRows ? 'Give `download` to fetch them' : 'Get a file of them'}${place}, or write ${task.name}=rows.parquet with a file of your own.`,
    );
  }
  if (fewshot === 0 || !task.hubFewshotRows || task.fewshotRows !== undefined) return { task, rows };
  const fewshotRows = await fileOf(task.hubFewshotRows);
  if (fewshotRows !== undefined) return { task, rows, fewshotRows };
  const { repo, split } = task.hubFewshotRows;
  throw new RmError(
    'INVALID_ARGUMENT',
    `task ${task.name} needs the rows of its ${fewshot} examples, which are not in the Hugging Face cache`,
    `Give \`download\` to fetch them (${repo}, ${split}), or set \`fewshot\` to 0.`,
  );
}

async function tasksOfFolder(folder: string, names: readonly string[]): Promise<TaskSource[]> {
  const listed = await readdir(folder).catch(error => {
    const message = `${folder}: cannot be read: ${reasonOf(error)}`;
    throw new RmError('DATA_INVALID', message, 'Check its permissions.', { cause: error });
  });
  const paths = listed.sort().map(name => join(folder, name));
  const sources: TaskSource[] = [];
  for (const path of paths.filter(isTaskFile)) sources.push({ task: await readTaskFile(path) });
  const taken = new Set(sources.flatMap(({ task }) => [task.rows, task.fewshotRows]));
  const matched = paths.flatMap(path => {
    const match = isRowsFile(path) && !taken.has(path) ? taskOfName(path, names) : undefined;
    return match ? [{ path, ...match, examples: /^(fewshot|dev|train)(_|$)/.test(match.rest) }] : [];
  });
  for (const { path, name } of matched.filter(({ examples }) => !examples)) {
    const examples = matched.find(other => other.examples && other.name === name);
    const task = await readTaskFile(builtInFile(name));
    sources.push({ task, rows: path, ...(examples && { fewshotRows: examples.path }) });
  }
  if (sources.length > 0) return sources;
  throw new RmError(
    'INVALID_ARGUMENT',
    `${folder}: holds neither task files nor rows of a known task`,
    `Name the files of rows after their tasks: ${names.join(', ')}.`,
  );
}
