import { RmError } from '../../engine/index.js';
import { askPython } from '../jinja/python.js';
import { TemplateFailure } from '../jinja/templateFailure.js';

/** What a template gave for a row. */
export type Outcome = { readonly value: unknown } | { readonly error: string };

/** Rows by name of their fields; numbers may be those of parseMarkedJson. */
type Rows = readonly Readonly<Record<string, unknown>>[];

/** Rows of one request: few enough to take much less time than a request may. */
const ROWS_TOGETHER = 64;

/** @throws RmError CONFIG_INVALID for a template or pattern that takes too much, as `path` has them. */
export async function askAboutTask<T>(path: string, request: Readonly<Record<string, unknown>>): Promise<T> {
  try {
    return (await askPython(request)) as T;
  } catch (cause) {
    if (!(cause instanceof TemplateFailure)) throw cause;
    throw new RmError(
      'CONFIG_INVALID',
      `${path}: a template or pattern was stopped: ${cause.message}`,
      'Correct the templates and patterns of the task.',
      { cause },
    );
  }
}

/** Asks for a few rows at a time. */
export async function askInGroups<T>(path: string, rows: Rows, request: Readonly<Record<string, unknown>>) {
  const answers: T[] = [];
  for (let first = 0; first < rows.length; first += ROWS_TOGETHER) {
    const together = rows.slice(first, first + ROWS_TOGETHER);
    answers.push(...(await askAboutTask<T[]>(path, { ...request, rows: together })));
  }
  return answers;
}

/** What is wrong with each template of a task file, null where nothing is. */
export const checkTemplates = (path: string, sources: readonly string[]): Promise<(string | null)[]> =>
  askAboutTask(path, { kind: 'check tasks', sources });

/** What is wrong with each regular expression, null where nothing is. */
export const checkPatterns = (path: string, patterns: readonly string[]): Promise<(string | null)[]> =>
  askAboutTask(path, { kind: 'check patterns', patterns });

/**
 * Evaluates templates in order for each row, each with what the ones before it gave, up to the first that fails.
 *
 * @param path of the task file, for messages.
 * @throws RmError CONFIG_INVALID where a template takes too much time or memory.
 */
export const deriveFields = (
  path: string,
  rows: Rows,
  fields: readonly (readonly [name: string, template: string])[],
): Promise<Record<string, Outcome>[]> => askInGroups(path, rows, { kind: 'derive fields', fields });

/**
 * Evaluates templates by name for each row. A template that is a single expression {{...}} which gives a list gives that
 * list; any other gives its text.
 *
 * @throws RmError as `deriveFields`.
 */
export const evaluateTemplates = (
  path: string,
  rows: Rows,
  templates: Readonly<Record<string, string>>,
): Promise<Record<string, Outcome>[]> => askInGroups(path, rows, { kind: 'evaluate tasks', templates });
