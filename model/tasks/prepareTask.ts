import {
  checkArguments,
  flag,
  objectWith,
  optional,
  RmError,
  record,
  text,
  whole,
} from '../../engine/index.js';
import { aChat, aPath, settingsAmong } from '../arguments/forms.js';
import { type Prompt, Prompter } from './prompts.js';
import { type PromptStyle, PromptWriter } from './promptText.js';
import type { Task } from './taskFile.js';
import { groupOf, readTaskRows } from './taskRows.js';

/** A task and the files of its rows. */
export interface TaskSource {
  readonly task: Task;
  /** File of the rows (default: the one in the task file). */
  readonly rows?: string | undefined;
  /** File of the few-shot examples (default: the one in the task file, else the rows themselves). */
  readonly fewshotRows?: string | undefined;
}

/** Settings of `prepareTask`. */
export interface PrepareOptions extends PromptStyle {
  /** Few-shot examples before every row (default: the task file's number). */
  fewshot?: number | undefined;
  /** Use only the first rows of each group (default: all). */
  limit?: number | undefined;
}

const aTaskSource = record({
  task: objectWith('a task, as readTaskFile returns it', 'name', 'metrics'),
  rows: optional(aPath),
  fewshotRows: optional(aPath),
});
const prepareSettings = settingsAmong<PrepareOptions>({
  chat: optional(aChat),
  fewshotAsMultiturn: optional(flag),
  systemInstruction: optional(text),
  fewshot: optional(whole()),
  limit: optional(whole(1)),
});

/** A task's rows as prompts, ready for any model. */
export interface PreparedTask {
  readonly task: Task;
  readonly rowsFile: string;
  /** Rows of that file; `prompts` may be of fewer. */
  readonly rowsInFile: number;
  readonly fewshot: number;
  readonly prompts: readonly Prompt[];
  /** What the user should know of the prompts. */
  readonly warnings: readonly string[];
}

/**
 * Reads a task's rows and turns them into prompts.
 *
 * @throws RmError DATA_INVALID naming file, line and field; INVALID_ARGUMENT if no file of rows is known.
 */
export async function prepareTask(source: TaskSource, options: PrepareOptions = {}): Promise<PreparedTask> {
  checkArguments('prepareTask', { source, options }, { source: aTaskSource, options: prepareSettings });
  const { task, rows: rowsOption, fewshotRows: examplesOption } = source;
  const rowsFile = rowsOption ?? task.rows;
  if (rowsFile === undefined) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `task ${task.name} has no rows`,
      `Give them as \`tasks: ${task.name}=rows.jsonl\`.`,
    );
  }
  const rows = await readTaskRows(task, rowsFile);
  const fewshot = options.fewshot ?? task.fewshot;
  const examplesFile = examplesOption ?? task.fewshotRows;
  const examples =
    fewshot > 0 && examplesFile !== undefined ? await readTaskRows(task, examplesFile) : undefined;
  const writer = new PromptWriter(options);
  const prompter = new Prompter(task, { rows, examples, fewshot }, writer);
  const used = new Map<string, number>();
  const selected = rows.filter(row => {
    const group = groupOf(task, row) ?? '';
    const count = (used.get(group) ?? 0) + 1;
    used.set(group, count);
    return count <= (options.limit ?? Number.POSITIVE_INFINITY);
  });
  const prompts = await prompter.prompts(selected);
  const warnings = writer.withoutSystem
    ? [`${task.name}: the chat template refuses a system message, so prompts have none`]
    : [];
  return { task, rowsFile, rowsInFile: rows.length, fewshot, prompts, warnings };
}
